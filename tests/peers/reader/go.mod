module reader

go 1.21

require github.com/eapache/go-xerial-snappy v0.0.0-20230731223053-c322873962e3

require github.com/golang/snappy v0.0.4 // indirect
