// Reads objects with the readers of Go's own library, and the xerial stream as Go's clients of Kafka do:
// reader KIND FILE, KIND gzip, zip or snappy; to the standard output.
package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"

	snappy "github.com/eapache/go-xerial-snappy"
)

func open(kind, name string) (io.Reader, error) {
	if kind == "zip" {
		archive, err := zip.OpenReader(name)
		if err != nil {
			return nil, err
		}
		if len(archive.File) != 1 {
			return nil, fmt.Errorf("%d entries", len(archive.File))
		}
		return archive.File[0].Open()
	}
	if kind == "snappy" {
		packed, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(packed, []byte("\x82SNAPPY\x00")) {
			return nil, fmt.Errorf("no header")
		}
		plain, err := snappy.Decode(packed)
		return bytes.NewReader(plain), err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(file)
}

func main() {
	in, err := open(os.Args[1], os.Args[2])
	if err == nil {
		_, err = io.Copy(os.Stdout, in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
