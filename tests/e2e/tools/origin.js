// A Node origin: what a real HTTP stack sends. Started by harness/servers.py (node origin.js PORT).
// GET anything: JSON of the request. POST /echo: the body back, chunked. GET /hints: 103, then 200.
// GET /stream?n=N&size=S: N chunks of S bytes. GET /trailers: a chunked body with trailers.
// Upgrade "echo" or "websocket": 101, then every byte back.
'use strict';
const http = require('http');

function describe(request, response) {
  const body = JSON.stringify({method: request.method, url: request.url, headers: request.headers,
    raw: request.rawHeaders});
  response.setHeader('Content-Type', 'application/json');
  response.end(body);
}

function stream(request, response) {
  const query = new URL(request.url, 'http://x').searchParams;
  const block = Buffer.alloc(Number(query.get('size')), 'n');
  let left = Number(query.get('n'));
  const more = () => {
    while (left-- > 0) {
      if (!response.write(block)) return response.once('drain', more);
    }
    response.end();
  };
  more();
}

const server = http.createServer((request, response) => {
  if (request.url === '/echo') return void request.pipe(response);
  if (request.url.startsWith('/stream')) return stream(request, response);
  if (request.url === '/hints') {
    response.writeEarlyHints({link: '</style.css>; rel=preload'});
    return response.end('hinted');
  }
  if (request.url === '/trailers') {
    response.writeHead(200, {Trailer: 'X-Sum'});
    response.write('with ');
    response.addTrailers({'X-Sum': '7'});
    return response.end('trailers');
  }
  describe(request, response);
});
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ' +
    request.headers.upgrade + '\r\n\r\n');
  if (head.length) socket.write(head);
  socket.pipe(socket);
  socket.on('error', () => socket.destroy());
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
