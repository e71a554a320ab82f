import java.io.BufferedOutputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hive.ql.exec.vector.BytesColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.ColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.DecimalColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.DoubleColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.ListColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.LongColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.MapColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.StructColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.TimestampColumnVector;
import org.apache.hadoop.hive.ql.exec.vector.VectorizedRowBatch;
import org.apache.hadoop.hive.ql.io.sarg.PredicateLeaf;
import org.apache.hadoop.hive.ql.io.sarg.SearchArgument;
import org.apache.hadoop.hive.ql.io.sarg.SearchArgumentFactory;
import org.apache.hadoop.io.compress.SnappyCodec;
import org.apache.orc.OrcFile;
import org.apache.orc.RecordReader;
import org.apache.orc.TypeDescription;
import org.xerial.snappy.SnappyInputStream;

/**
 * Reads objects with the readers of Java's own library, snappy-java, Hadoop and Apache ORC.
 *
 * Reader TASKS: lines of `KIND FILE OUT`, all in one process; KIND is gzip, zip, zipfile, snappy, hadoop_snappy or orc. What
 * was read goes to OUT; of ORC each row as JSON. Prints `KIND FILE SECONDS` of each.
 *
 * An ORC file is read from the first row to the last, then from rows within it (by the positions of its row index), and then
 * with a search for one value of each column of integers and strings (by its statistics): all three must agree.
 */
public final class Reader {
  public static void main(String[] arguments) throws Exception {
    for (String line : Files.readAllLines(Path.of(arguments[0]))) {
      String[] task = line.split(" ");
      long begin = System.nanoTime();
      try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(Path.of(task[2])))) {
        if (task[0].equals("orc")) {
          readOrc(task[1], out);
        } else {
          try (InputStream in = open(task[0], task[1])) {
            in.transferTo(out);
          }
        }
      }
      System.out.printf("%s %s %.2f%n", task[0], task[1], (System.nanoTime() - begin) / 1e9);
    }
  }

  static InputStream open(String kind, String file) throws IOException {
    InputStream in = new FileInputStream(file);
    switch (kind) {
      case "gzip":
        return new GZIPInputStream(in);
      case "zip":
        ZipInputStream zip = new ZipInputStream(in);
        zip.getNextEntry();
        return zip;
      case "zipfile":
        ZipFile archive = new ZipFile(file);
        return archive.getInputStream(archive.entries().nextElement());
      case "snappy":
        return new SnappyInputStream(in);
      case "hadoop_snappy":
        SnappyCodec codec = new SnappyCodec();
        codec.setConf(new Configuration(false));
        return codec.createInputStream(in);
      default:
        throw new IllegalArgumentException(kind);
    }
  }

  // ORC

  static void readOrc(String file, OutputStream out) throws IOException {
    OrcFile.ReaderOptions options =
        OrcFile.readerOptions(new Configuration(false)).useUTCTimestamp(true).convertToProlepticGregorian(true);
    var path = new org.apache.hadoop.fs.Path(Path.of(file).toAbsolutePath().toUri());
    try (org.apache.orc.Reader reader = OrcFile.createReader(path, options)) {
      List<String> rows = rows(reader, reader.options(), -1);
      PrintStream lines = new PrintStream(out, false, StandardCharsets.UTF_8);
      rows.forEach(lines::println);
      lines.flush();
      require(rows.size() == reader.getNumberOfRows(), file + ": " + rows.size() + " rows of " + reader.getNumberOfRows());
      seek(file, reader, rows);
      search(file, reader);
    }
  }

  /** The rows, or of each only one column. */
  static List<String> rows(org.apache.orc.Reader reader, org.apache.orc.Reader.Options options, int column)
      throws IOException {
    List<String> rows = new ArrayList<>();
    VectorizedRowBatch batch = reader.getSchema().createRowBatch();
    try (RecordReader records = reader.rows(options)) {
      while (records.nextBatch(batch)) {
        for (int row = 0; row < batch.size; row++) {
          rows.add(row(reader.getSchema(), batch, row, column));
        }
      }
    }
    return rows;
  }

  /** Backwards, so that every place is sought by the positions of the row index. */
  static void seek(String file, org.apache.orc.Reader reader, List<String> rows) throws IOException {
    int stride = reader.getRowIndexStride();
    VectorizedRowBatch batch = reader.getSchema().createRowBatch();
    try (RecordReader records = reader.rows()) {
      for (int group = (rows.size() - 1) / stride * stride; group >= 0; group -= stride) {
        for (int place : new int[] {group + stride - 1, group + stride / 3, group}) {
          if (place < rows.size()) {
            records.seekToRow(place);
            require(records.nextBatch(batch), file + ": nothing at row " + place);
            require(row(reader.getSchema(), batch, 0, -1).equals(rows.get(place)), file + ": another row at " + place);
          }
        }
      }
    }
  }

  static void search(String file, org.apache.orc.Reader reader) throws IOException {
    TypeDescription schema = reader.getSchema();
    long all = 0;
    long read = 0;
    for (int column = 0; column < schema.getChildren().size(); column++) {
      PredicateLeaf.Type type = switch (schema.getChildren().get(column).getCategory()) {
        case BYTE, SHORT, INT, LONG -> PredicateLeaf.Type.LONG;
        case STRING -> PredicateLeaf.Type.STRING;
        default -> null;
      };
      if (type == null) {
        continue;
      }
      List<String> values = rows(reader, reader.options(), column);
      String wanted = values.get(values.size() / 2);
      if (wanted.equals("null") || wanted.contains("\\")) {
        continue;
      }
      String name = schema.getFieldNames().get(column);
      Object literal = type == PredicateLeaf.Type.LONG ? Long.valueOf(wanted) : wanted.substring(1, wanted.length() - 1);
      SearchArgument search = SearchArgumentFactory.newBuilder().startAnd().equals(name, type, literal).end().build();
      var options = reader.options().searchArgument(search, new String[] {name});
      List<String> found = rows(reader, options, column);
      long matches = values.stream().filter(wanted::equals).count();
      require(found.stream().filter(wanted::equals).count() == matches, file + ": a search in " + name + " misses rows");
      all += values.size();
      read += found.size();
    }
    System.out.printf("searches %s read %d of %d rows%n", file, read, all);
  }

  // JSON

  static String row(TypeDescription schema, VectorizedRowBatch batch, int row, int column) {
    StringBuilder out = new StringBuilder();
    if (column >= 0) {
      json(schema.getChildren().get(column), batch.cols[column], row, out);
    } else {
      object(schema, batch.cols, row, out);
    }
    return out.toString();
  }

  static void object(TypeDescription type, ColumnVector[] fields, int row, StringBuilder out) {
    out.append('{');
    for (int field = 0; field < fields.length; field++) {
      out.append(field == 0 ? "" : ",");
      string(type.getFieldNames().get(field), out);
      out.append(':');
      json(type.getChildren().get(field), fields[field], row, out);
    }
    out.append('}');
  }

  static void json(TypeDescription type, ColumnVector vector, int row, StringBuilder out) {
    int at = vector.isRepeating ? 0 : row;
    if (!vector.noNulls && vector.isNull[at]) {
      out.append("null");
      return;
    }
    switch (type.getCategory()) {
      case BOOLEAN -> out.append(((LongColumnVector) vector).vector[at] != 0);
      case BYTE, SHORT, INT, LONG -> out.append(((LongColumnVector) vector).vector[at]);
      case DATE -> string(LocalDate.ofEpochDay(((LongColumnVector) vector).vector[at]).toString(), out);
      case FLOAT -> out.append((float) ((DoubleColumnVector) vector).vector[at]);
      case DOUBLE -> out.append(((DoubleColumnVector) vector).vector[at]);
      case DECIMAL -> out.append(((DecimalColumnVector) vector).vector[at].toString());
      case TIMESTAMP -> {
        TimestampColumnVector times = (TimestampColumnVector) vector;
        long second = Math.floorDiv(times.time[at], 1000L);
        string(Instant.ofEpochSecond(second, times.nanos[at]).toString(), out);
      }
      case STRING, BINARY -> {
        BytesColumnVector texts = (BytesColumnVector) vector;
        string(new String(texts.vector[at], texts.start[at], texts.length[at], StandardCharsets.UTF_8), out);
      }
      case LIST -> {
        ListColumnVector list = (ListColumnVector) vector;
        out.append('[');
        for (long index = list.offsets[at]; index < list.offsets[at] + list.lengths[at]; index++) {
          out.append(index == list.offsets[at] ? "" : ",");
          json(type.getChildren().get(0), list.child, (int) index, out);
        }
        out.append(']');
      }
      case MAP -> {
        MapColumnVector map = (MapColumnVector) vector;
        out.append('[');
        for (long index = map.offsets[at]; index < map.offsets[at] + map.lengths[at]; index++) {
          out.append(index == map.offsets[at] ? "[" : ",[");
          json(type.getChildren().get(0), map.keys, (int) index, out);
          out.append(',');
          json(type.getChildren().get(1), map.values, (int) index, out);
          out.append(']');
        }
        out.append(']');
      }
      case STRUCT -> object(type, ((StructColumnVector) vector).fields, at, out);
      default -> throw new IllegalArgumentException(type.toString());
    }
  }

  static void string(String text, StringBuilder out) {
    out.append('"');
    for (char c : text.toCharArray()) {
      if (c < ' ' || c == '"' || c == '\\') {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    out.append('"');
  }

  static void require(boolean holds, String otherwise) {
    if (!holds) {
      throw new IllegalStateException(otherwise);
    }
  }
}
