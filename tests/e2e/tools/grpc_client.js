// Calls of every kind by @grpc/grpc-js, with bytes as messages. node grpc_client.js PORT [CA]:
// one line of JSON with what came.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const [port, ca] = process.argv.slice(2);
const as = (name, inward, outward) => ({
  path: `/weir.Test/${name}`, requestStream: inward, responseStream: outward,
  requestSerialize: (m) => m, requestDeserialize: (m) => m,
  responseSerialize: (m) => m, responseDeserialize: (m) => m,
});
const Client = grpc.makeGenericClientConstructor({
  echo: as('echo', false, false), status: as('status', false, false),
  collect: as('collect', true, false), spread: as('spread', false, true),
  late: as('late', false, true), hang: as('hang', false, true), chat: as('chat', true, true),
  nowhere: { ...as('nowhere', false, false), path: '/nowhere/at.all' },
}, 'weir.Test');
const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca))
  : grpc.credentials.createInsecure();
const client = new Client(`127.0.0.1:${port}`, credentials, {
  'grpc.enable_http_proxy': 0, 'grpc.ssl_target_name_override': 'localhost',
  'grpc.default_authority': 'localhost' });

const unary = (method, data, options = {}) => new Promise((resolve) => {
  const out = {};
  const call = client[method](data, new grpc.Metadata(), options, (error, answer) => {
    out.code = error ? error.code : 0;
    out.details = error ? error.details : '';
    out.answer = answer;
  });
  call.on('status', (status) => { out.trailers = status.metadata.getMap(); resolve(out); });
});
const stream = (call) => new Promise((resolve) => {
  const parts = [];
  call.on('data', (part) => parts.push(part));
  call.on('error', () => {});
  call.on('status', (status) => resolve({ code: status.code, details: status.details, parts }));
});

async function main() {
  const out = {};
  const large = Buffer.alloc(1 << 20, 'x');
  const echo = await unary('echo', large);
  out.echo = [echo.code, echo.details, large.equals(echo.answer || Buffer.alloc(0)), echo.trailers['x-sum']];
  out.status = await unary('status', Buffer.from('5 none such'));
  out.late = await stream(client.late(Buffer.from('9 not now')));
  out.late.parts = out.late.parts.length;
  const spread = await stream(client.spread(Buffer.from('300 1000')));
  out.spread = [spread.code, spread.details, spread.parts.length];
  out.collect = await new Promise((resolve) => {
    const call = client.collect((error, answer) => resolve(error ? error.code : `${answer}`));
    for (let i = 0; i < 300; i++) call.write(Buffer.alloc(1000, 'y'));
    call.end();
  });
  const chat = client.chat();
  let turns = 0;
  chat.on('data', () => (++turns < 100 ? chat.write(Buffer.from('again')) : chat.end()));
  chat.write(Buffer.from('first'));
  out.chat = [(await stream(chat)).code, turns];
  const hang = client.hang(Buffer.alloc(0), new grpc.Metadata(), { deadline: Date.now() + 300 });
  out.hang = (await stream(hang)).code;
  const left = client.hang(Buffer.from('one'));
  left.once('data', () => left.cancel());
  out.cancel = (await stream(left)).code;
  const nowhere = await unary('nowhere', Buffer.alloc(0));
  out.nowhere = [nowhere.code, nowhere.details];
  client.close();
  console.log(JSON.stringify(out));
}
main();
