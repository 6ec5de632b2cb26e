// fetch.go: a static Go client with Go's own resolver: HTTP/2 and HTTP/1.1 over TLS, or one raw connection.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 3 && os.Args[1] == "raw" {
		connection, err := net.DialTimeout("tcp", os.Args[2], 4*time.Second)
		if err != nil {
			return err
		}
		connection.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprintf(connection, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", os.Getenv("CANARY"), os.Args[2])
		_, err = io.ReadAll(connection)
		return err
	}
	// Where TLS is opened nobody says whom to trust but the sandbox itself.
	var pool *x509.CertPool
	if file := os.Getenv("LAB_CA_FILE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pool = x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
	}
	for _, two := range []bool{true, false} {
		transport := &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   &tls.Config{RootCAs: pool},
			ForceAttemptHTTP2: two,
		}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		for turn := 0; turn < 3; turn++ {
			response, err := client.Get("https://allowed.test/from-go")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != 200 || (response.ProtoMajor == 2) != two {
				return fmt.Errorf("%v %v %v", response.Status, response.Proto, err)
			}
		}
	}
	return nil
}
