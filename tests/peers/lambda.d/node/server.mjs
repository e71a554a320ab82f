// A function behind Lambda's Invoke path, with the event checked and read by the parser of Powertools for AWS Lambda
// (TypeScript): server.mjs PORT.
import http from 'node:http';
import { KinesisFirehoseSchema } from '@aws-lambda-powertools/parser/schemas/kinesis-firehose';

const enrich = (event) => {
  const { records, sourceKinesisStreamArn: stream } = KinesisFirehoseSchema.parse(event);
  return {
    records: records.map(({ recordId, data, approximateArrivalTimestamp: arrival, kinesisRecordMetadata: metadata }) => {
      const { n, kind, text } = JSON.parse(data);
      if (kind === 'drop') return { recordId, result: 'Dropped', data: '' };
      if (kind === 'fail') return { recordId, result: 'ProcessingFailed', data: '' };
      const { shardId: shard, partitionKey: key, sequenceNumber: sequence, subsequenceNumber: sub } = metadata;
      const made = JSON.stringify({ n, text, shard, key, sequence, sub, arrival, stream });
      return { recordId, result: 'Ok', data: Buffer.from(made).toString('base64'), metadata: { partitionKeys: { kind } } };
    }),
  };
};

http
  .createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      if (request.method !== 'POST' || request.url !== '/2015-03-31/functions/node/invocations') {
        response.writeHead(404, { 'x-amzn-errortype': 'ResourceNotFoundException' }).end('{}');
        return;
      }
      try {
        response.end(JSON.stringify(enrich(JSON.parse(Buffer.concat(parts).toString()))));
      } catch (error) {
        console.error(error);
        response.writeHead(200, { 'x-amz-function-error': 'Unhandled' });
        response.end(JSON.stringify({ errorMessage: String(error), errorType: error.name }));
      }
    });
  })
  .listen(Number(process.argv[2]), '127.0.0.1');
