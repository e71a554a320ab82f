// A function behind Lambda's Invoke path, with the event read by aws-lambda-go: main PORT.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

type input struct {
	N    int    `json:"n"`
	Kind string `json:"kind"`
	Text string `json:"text"`
}

type enriched struct {
	N        int    `json:"n"`
	Text     string `json:"text"`
	Shard    string `json:"shard"`
	Key      string `json:"key"`
	Sequence string `json:"sequence"`
	Sub      int64  `json:"sub"`
	Arrival  int64  `json:"arrival"`
	Stream   string `json:"stream"`
}

func enrich(_ context.Context, event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
	var response events.KinesisFirehoseResponse
	for _, record := range event.Records {
		made := events.KinesisFirehoseResponseRecord{RecordID: record.RecordID}
		var data input
		if err := json.Unmarshal(record.Data, &data); err != nil {
			return response, err
		}
		switch data.Kind {
		case "drop":
			made.Result = events.KinesisFirehoseTransformedStateDropped
		case "fail":
			made.Result = events.KinesisFirehoseTransformedStateProcessingFailed
		default:
			metadata := record.KinesisFirehoseRecordMetadata
			made.Result = events.KinesisFirehoseTransformedStateOk
			made.Metadata.PartitionKeys = map[string]string{"kind": data.Kind}
			body, err := json.Marshal(enriched{
				data.N, data.Text, metadata.ShardID, metadata.PartitionKey, metadata.SequenceNumber,
				metadata.SubsequenceNumber, metadata.ApproximateArrivalTimestamp.UnixMilli(), event.SourceKinesisStreamArn,
			})
			if err != nil {
				return response, err
			}
			made.Data = body
		}
		response.Records = append(response.Records, made)
	}
	return response, nil
}

func main() {
	handler := lambda.NewHandler(enrich)
	// The library's buffer is one for all: Lambda never runs two invocations in one process.
	var one sync.Mutex
	http.HandleFunc("POST /2015-03-31/functions/go/invocations", func(w http.ResponseWriter, r *http.Request) {
		event, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		one.Lock()
		defer one.Unlock()
		answer, err := handler.Invoke(r.Context(), event)
		if err != nil {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			answer, _ = json.Marshal(map[string]string{"errorMessage": err.Error(), "errorType": "error"})
		}
		w.Write(answer)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
