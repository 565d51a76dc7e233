// gRPC-Web by hand with fetch: node grpc_web_client.js URL FORM MESSAGE. One line of JSON: the
// Content-Type, the messages and the trailers that came.
'use strict';
const [url, form, message] = process.argv.slice(2);
const text = form.includes('-text');

const frame = (data) => {
  const out = Buffer.alloc(5 + data.length);
  out.writeUInt32BE(data.length, 1);
  data.copy(out, 5);
  return out;
};

async function main() {
  const body = frame(Buffer.from(message));
  const response = await fetch(url, {
    method: 'POST', body: text ? body.toString('base64') : body,
    headers: { 'content-type': form, accept: form, 'x-grpc-web': '1', 'x-user-agent': 'hand' },
  });
  const out = { status: response.status, type: response.headers.get('content-type'),
    messages: [], trailers: {} };
  let data = Buffer.alloc(0), left = '';
  for await (const part of response.body) {
    if (text) {
      left += Buffer.from(part).toString('latin1');
      const whole = left.length - left.length % 4;
      const groups = left.slice(0, whole).match(/.{4}/g) || [];
      data = Buffer.concat([data, ...groups.map((group) => Buffer.from(group, 'base64'))]);
      left = left.slice(whole);
    } else {
      data = Buffer.concat([data, Buffer.from(part)]);
    }
    while (data.length >= 5 && data.length >= 5 + data.readUInt32BE(1)) {
      const size = data.readUInt32BE(1), one = data.subarray(5, 5 + size);
      if (data[0] & 0x80) {
        for (const line of one.toString().split('\r\n').filter(Boolean)) {
          const colon = line.indexOf(':');
          out.trailers[line.slice(0, colon)] = line.slice(colon + 1).trim();
        }
      } else {
        out.messages.push(one.toString());
      }
      data = data.subarray(5 + size);
    }
  }
  out.rest = data.length + left.length;
  console.log(JSON.stringify(out));
}
main();
