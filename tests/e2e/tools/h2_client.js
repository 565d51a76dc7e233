// A Node HTTP/2 client: node h2_client.js ORIGIN [CA-FILE]. Runs its checks against the pages of
// tests/e2e/harness/h2site.py and prints one JSON object: what each of them saw.
'use strict';
const fs = require('fs');
const http2 = require('http2');
const crypto = require('crypto');
const [origin, ca] = process.argv.slice(2);
const session = http2.connect(origin, ca ? {ca: fs.readFileSync(ca)} : {});
const pattern = (size) => {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size; at++) data[at] = at % 251;
  return data;
};
function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >>> 1 ^ 0xedb88320 : crc >>> 1;
  }
  return (~crc >>> 0).toString(16).padStart(8, '0');
}
const sha = (data) => crypto.createHash('sha256').update(data).digest('hex');

// One request; body: a buffer, or a function that writes to the stream itself.
function request(headers, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, {endStream: body === undefined,
      waitForTrailers: typeof body === 'function'});
    const seen = {interim: [], trailers: null};
    const parts = [];
    stream.on('headers', (each) => seen.interim.push(each[':status']));
    stream.on('continue', () => seen.interim.push(100));
    stream.on('response', (each) => { seen.headers = each; seen.status = each[':status']; });
    stream.on('trailers', (each) => { seen.trailers = each; });
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => { seen.body = Buffer.concat(parts); });
    stream.on('close', () => (stream.rstCode ? reject(new Error('RST ' + stream.rstCode))
      : resolve(seen)));
    stream.on('error', reject);
    if (typeof body === 'function') body(stream);
    else if (body !== undefined) stream.end(body);
  });
}

const get = (path, more) => request({':path': path, ...more});
const post = (path, body, more) => request({':method': 'POST', ':path': path, ...more}, body);

function cancel() {
  return new Promise((resolve) => {
    const stream = session.request({':path': '/held'});
    stream.on('close', () => resolve(stream.rstCode));
    stream.on('error', () => 0);
    setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 50);
  });
}

function ping() {
  return new Promise((resolve, reject) => session.ping((error) => (error ? reject(error)
    : resolve(true))));
}

async function main() {
  const out = {sizes: [], uploads: []};
  for (const size of [0, 1, 16383, 16384, 65535, 65536, 1 << 20, 5 << 20]) {
    const down = await get('/bytes?n=' + size);
    out.sizes.push(sha(down.body) === sha(pattern(size)) && down.status === 200);
    const up = await post('/sum', pattern(size));
    out.uploads.push(up.body.toString() === size + ' ' + crc32(pattern(size)));
  }
  const many = await Promise.all(Array.from({length: 100}, (_, n) => get('/n' + n)));
  out.many = many.filter((each, n) => each.body.toString() === 'GET /n' + n).length;
  const trailers = await get('/trailers', {te: 'trailers'});
  out.trailers = [trailers.body.toString(), trailers.trailers && trailers.trailers['x-sum']];
  out.hints = await get('/hints').then((each) => [each.interim, each.status]);
  out.head = await request({':method': 'HEAD', ':path': '/bytes?n=1000'})
    .then((each) => [each.status, each.headers['content-length'], each.body.length]);
  out.empty = [(await get('/204')).status, (await get('/304')).status];
  out.expect = await post('/echo', (stream) => {
    stream.on('wantTrailers', () => stream.sendTrailers({}));
    stream.on('continue', () => stream.end('late'));
  },
    {expect: '100-continue'}).then((each) => [each.interim, each.body.toString()]);
  out.sent = await post('/echo', (stream) => {
    stream.on('wantTrailers', () => stream.sendTrailers({'x-sum': '9'}));
    stream.end('body');
  }).then((each) => each.body.toString());
  out.cookies = JSON.parse((await get('/fields', {cookie: ['a=b', 'c=d']})).body)
    .filter(([name]) => name === 'cookie').map(([, value]) => value);
  out.large = (await get('/large-head')).headers['x-39'].length;
  out.cancel = await cancel();
  out.ping = await ping();
  out.settings = session.remoteSettings.maxConcurrentStreams;
  session.close(() => process.stdout.write(JSON.stringify(out)));
}

session.on('error', (error) => { console.error(error); process.exit(1); });
main().catch((error) => { console.error(error); process.exit(1); });
