// The Firehose receiver of the OpenTelemetry collector, alone: what it takes is counted, and asked for at /count.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/awsfirehosereceiver"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// Numbers of data points, by the dimension `n` of each.
type counts struct {
	sync.Mutex
	points map[string]int
	stop   bool
}

func (c *counts) take(_ context.Context, metrics pmetric.Metrics) error {
	c.Lock()
	defer c.Unlock()
	for r := 0; r < metrics.ResourceMetrics().Len(); r++ {
		scopes := metrics.ResourceMetrics().At(r).ScopeMetrics()
		for s := 0; s < scopes.Len(); s++ {
			for m := 0; m < scopes.At(s).Metrics().Len(); m++ {
				points := scopes.At(s).Metrics().At(m).Summary().DataPoints()
				for p := 0; p < points.Len(); p++ {
					points.At(p).Attributes().Range(func(key string, value pcommon.Value) bool {
						if key == "n" {
							c.points[value.AsString()]++
						}
						return true
					})
				}
			}
		}
	}
	return nil
}

func main() {
	endpoint, key, ask := os.Args[1], os.Args[2], os.Args[3]
	c := &counts{points: map[string]int{}}
	factory := awsfirehosereceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	written := confmap.NewFromStringMap(map[string]any{"endpoint": endpoint, "access_key": key, "record_type": "cwmetrics"})
	check(written.Unmarshal(config))
	next, err := consumer.NewMetrics(c.take)
	check(err)
	one, err := factory.CreateMetricsReceiver(context.Background(), receivertest.NewNopSettings(), config, next)
	check(err)
	check(one.Start(context.Background(), componenttest.NewNopHost()))
	http.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) {
		c.Lock()
		defer c.Unlock()
		for n, times := range c.points {
			fmt.Fprintf(w, "%s %d\n", n, times)
		}
	})
	go func() { check(http.ListenAndServe(ask, nil)) }()
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	check(one.Shutdown(context.Background()))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
