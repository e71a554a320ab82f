"""Functions behind Lambda's Invoke path, with the event read by Powertools for AWS Lambda and signatures checked by botocore.

server.py PORT. Names: `python`, by name or ARN, and `raises-python`, which fails."""

import json
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aws_lambda_powertools.utilities.data_classes import (
    KinesisFirehoseDataTransformationRecordMetadata,
    KinesisFirehoseDataTransformationResponse,
    KinesisFirehoseEvent,
)
from aws_lambda_powertools.utilities.serialization import base64_from_json
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def enrich(event, _context):
    event = KinesisFirehoseEvent(event)
    result = KinesisFirehoseDataTransformationResponse()
    for record in event.records:
        data = record.data_as_json
        if data["kind"] == "drop":
            made = record.build_data_transformation_response(result="Dropped")
        elif data["kind"] == "fail":
            made = record.build_data_transformation_response(result="ProcessingFailed", data=record.data)
        else:
            metadata = record.metadata
            assert metadata.approximate_arrival_timestamp == record.approximate_arrival_timestamp
            enriched = {
                "n": data["n"],
                "text": data["text"],
                "shard": metadata.shard_id,
                "key": metadata.partition_key,
                "sequence": metadata.sequence_number,
                "sub": metadata.subsequence_number,
                "arrival": record.approximate_arrival_timestamp,
                "stream": event.source_kinesis_stream_arn,
            }
            keys = KinesisFirehoseDataTransformationRecordMetadata(partition_keys={"kind": data["kind"]})
            made = record.build_data_transformation_response(data=base64_from_json(enriched), metadata=keys)
        result.add_record(made)
    return result.asdict()


def raises(_event, _context):
    raise ValueError("as it should")


FUNCTIONS = {"python": enrich, "raises-python": raises}


class Invoke(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        path = self.path.split("?")[0]
        name = urllib.parse.unquote(path.removeprefix("/2015-03-31/functions/").removesuffix("/invocations"))
        function = FUNCTIONS.get(name.split(":function:")[-1].split(":")[0])
        if not self.is_signed(body):
            self.answer(403, {"message": "the signature does not fit"}, {"x-amzn-ErrorType": "InvalidSignatureException"})
        elif self.headers["x-amz-invocation-type"] != "RequestResponse":
            self.answer(400, {"message": "invocation type"}, {"x-amzn-ErrorType": "InvalidParameterValueException"})
        elif function is None:
            self.answer(404, {"Message": "no such function"}, {"x-amzn-ErrorType": "ResourceNotFoundException"})
        else:
            try:
                self.answer(200, function(json.loads(body), None), {})
            except Exception as error:
                failure = {"errorMessage": str(error), "errorType": type(error).__name__}
                self.answer(200, failure, {"X-Amz-Function-Error": "Unhandled"})

    def is_signed(self, body):
        """Whether botocore signs the same request alike."""
        fields = dict(part.strip().split("=", 1) for part in self.headers["authorization"].split(" ", 1)[1].split(","))
        names = fields["SignedHeaders"].split(";")
        signer = SigV4Auth(Credentials("standpipe", "standpipe"), "lambda", "us-east-1")
        url = f"http://{self.headers['host']}{self.path}"
        request = AWSRequest("POST", url, headers={name: self.headers[name] for name in names}, data=body)
        request.context["timestamp"] = self.headers["x-amz-date"]
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        return expected == fields["Signature"]

    def answer(self, status, body, headers):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Invoke).serve_forever()
