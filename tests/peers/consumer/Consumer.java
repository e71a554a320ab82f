import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.async.SdkAsyncHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.KinesisClientLibException;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * The smallest consumer of the Java KCL: it writes every record that it gets to a file, and flushes it before it
 * checkpoints. A line is a letter, the time in ms, and fields, separated by tabs:
 * S worker | I shard seq sub (reads from) | R shard seq sub sha256 | C shard seq sub (checkpointed) | F shard error |
 * L shard (lease lost) | E shard (ended) | Q shard (asked to stop) | D (scheduler done).
 */
public final class Consumer {
    private static OutputStream out;

    private static String setting(String name) {
        String value = System.getProperty(name);
        if (value == null) {
            throw new IllegalArgumentException("-D" + name + " is missing");
        }
        return value;
    }

    private static synchronized void line(String kind, Object... fields) {
        StringBuilder text = new StringBuilder(kind).append('\t').append(System.currentTimeMillis());
        for (Object field : fields) {
            text.append('\t').append(field);
        }
        try {
            out.write(text.append('\n').toString().getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            Runtime.getRuntime().halt(9);
        }
    }

    /** What was written outlives a kill of this process. */
    private static synchronized void flush() {
        try {
            out.flush();
        } catch (IOException error) {
            Runtime.getRuntime().halt(9);
        }
    }

    /** The processor of one shard. */
    private static final class Processor implements ShardRecordProcessor {
        private final long everyRecords = Long.getLong("checkpoint.records", 100);
        private final long everyMillis = Long.getLong("checkpoint.millis", 1000);
        private String shard;
        private long since;
        private long last = System.nanoTime();

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            line("I", shard, input.extendedSequenceNumber().sequenceNumber(),
                    input.extendedSequenceNumber().subSequenceNumber());
            flush();
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            KinesisClientRecord seen = null;
            for (KinesisClientRecord record : input.records()) {
                line("R", shard, record.sequenceNumber(), record.subSequenceNumber(), hash(record.data()));
                seen = record;
                since++;
                // Also in the middle of what was read, and of an aggregate.
                if (since >= everyRecords) {
                    checkpoint(input.checkpointer(), seen);
                }
            }
            flush();
            boolean due = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - last) >= everyMillis;
            if (seen != null && since > 0 && due) {
                checkpoint(input.checkpointer(), seen);
            }
        }

        private void checkpoint(RecordProcessorCheckpointer checkpointer, KinesisClientRecord at) {
            flush();
            since = 0;
            last = System.nanoTime();
            try {
                if (at == null) {
                    checkpointer.checkpoint();
                    line("C", shard, "LARGEST", 0);
                } else {
                    checkpointer.checkpoint(at.sequenceNumber(), at.subSequenceNumber());
                    line("C", shard, at.sequenceNumber(), at.subSequenceNumber());
                }
            } catch (KinesisClientLibException | RuntimeException error) {
                line("F", shard, error.getClass().getSimpleName());
            }
            flush();
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            line("L", shard);
            flush();
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            line("E", shard);
            checkpoint(input.checkpointer(), null);
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            line("Q", shard);
            checkpoint(input.checkpointer(), null);
        }

        private static String hash(ByteBuffer data) {
            try {
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                digest.update(data.asReadOnlyBuffer());
                StringBuilder text = new StringBuilder();
                for (byte b : digest.digest()) {
                    text.append(String.format("%02x", b));
                }
                return text.toString();
            } catch (java.security.NoSuchAlgorithmException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    private static SdkAsyncHttpClient.Builder<?> http() {
        // The servers here speak HTTP/1.1 without encryption.
        return NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1).maxConcurrency(64);
    }

    /** Settings that KCL 2.x has not: how long a dead leader holds its place, and how often leases are assigned. */
    private static void quicker(LeaseManagementConfig leases, long millis) throws ReflectiveOperationException {
        try {
            if (millis > 0) {
                Class<?> type = LeaseManagementConfig.class;
                type.getMethod("dynamoDbLockBasedLeaderLeaseDurationInMillis", long.class).invoke(leases, millis);
                type.getMethod("dynamoDbLockBasedLeaderHeartbeatPeriodInMillis", long.class).invoke(leases, millis / 4);
                type.getMethod("leaseAssignmentIntervalMillis", Long.class).invoke(leases, millis);
            }
        } catch (NoSuchMethodException none) {
            line("S", "no leader to configure");
        }
    }

    public static void main(String[] arguments) throws Exception {
        out = new BufferedOutputStream(new FileOutputStream(setting("out"), true), 1 << 16);
        Region region = Region.of(setting("region"));
        KinesisAsyncClient kinesis = KinesisAsyncClient.builder().region(region)
                .endpointOverride(URI.create(setting("kinesis"))).httpClientBuilder(http()).build();
        DynamoDbAsyncClient dynamodb = DynamoDbAsyncClient.builder().region(region)
                .endpointOverride(URI.create(setting("dynamodb"))).httpClientBuilder(http()).build();
        CloudWatchAsyncClient cloudwatch = CloudWatchAsyncClient.builder().region(region).build();
        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(setting("stream"), InitialPositionInStreamExtended.newInitialPosition(
                        InitialPositionInStream.TRIM_HORIZON)),
                setting("table"), kinesis, dynamodb, cloudwatch, setting("worker"), Processor::new);
        PollingConfig polling = new PollingConfig(setting("stream"), kinesis);
        polling.idleTimeBetweenReadsInMillis(Long.getLong("poll.millis", 250));
        polling.usePollingConfigIdleTimeValue(true);
        LeaseManagementConfig leases = configs.leaseManagementConfig();
        leases.failoverTimeMillis(Long.getLong("failover.millis", 10_000));
        // It also sleeps for so long after it has made the first leases.
        leases.shardSyncIntervalMillis(2_000);
        quicker(leases, Long.getLong("leader.millis", 0));
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig(),
                leases,
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(polling));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
                line("D");
            } catch (Exception error) {
                line("F", "-", error.getClass().getSimpleName());
            }
            flush();
        }));
        line("S", setting("worker"));
        flush();
        scheduler.run();
    }
}
