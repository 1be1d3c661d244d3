import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { type HealthEndpoint, serveHealth } from './http-endpoint.ts';
import { MetricsRegistry } from './metrics.ts';

describe('serveHealth', () => {
  let endpoint: HealthEndpoint;
  let ready: boolean | string;
  const metrics = new MetricsRegistry();
  metrics.counter('writ_test_a_total', 'A.').inc();

  beforeEach(async () => {
    ready = true;
    endpoint = await serveHealth({
      listen: { host: '127.0.0.1', port: 0 },
      ready: () => ready,
      metrics,
    });
  });

  afterEach(() => endpoint[Symbol.asyncDispose]());

  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${endpoint.address}${path}`, { method });
    return [response.status, await response.text()];
  };

  it('answers 200 while ready, and 503 with the reason while not', async () => {
    assert.deepEqual(await get('/'), [200, 'ready\n']);
    assert.deepEqual(await get('/ready?verbose'), [200, 'ready\n']);
    ready = false;
    assert.deepEqual(await get('/'), [503, 'not ready\n']);
    ready = 'no server for 20 s';
    assert.deepEqual(await get('/ready'), [503, 'no server for 20 s\n']);
    assert.deepEqual(await get('/live'), [200, 'live\n']);
  });

  it('serves the metrics in Prometheus text', async () => {
    const response = await fetch(`http://${endpoint.address}/metrics`);
    assert.match(String(response.headers.get('content-type')), /^text\/plain; version=0\.0\.4/);
    assert.match(await response.text(), /^writ_test_a_total 1$/m);
  });

  it('answers 404 for other paths and 405 for other methods', async () => {
    assert.equal((await get('/ready/x'))[0], 404);
    assert.equal((await get('/metrics', 'POST'))[0], 405);
    assert.deepEqual(await get('/live', 'HEAD'), [200, '']);
  });

  it('refuses garbage and headers without end', async () => {
    for (const bytes of ['\0\xff\r\n\r\n', `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`]) {
      const socket = net.connect(Number(endpoint.address.split(':').pop()), '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write(bytes);
      const [answer] = await once(socket, 'data');
      assert.match(String(answer), /^HTTP\/1\.1 4/);
      socket.destroy();
    }
    assert.equal((await get('/'))[0], 200);
  });

  it('says which port is taken', async () => {
    const port = Number(endpoint.address.split(':').pop());
    const second = serveHealth({ listen: { host: '127.0.0.1', port }, ready: () => true, metrics });
    await assert.rejects(second, {
      code: 'STATE_UNUSABLE',
      message: `cannot serve health on 127.0.0.1:${port}: EADDRINUSE`,
    });
  });

  it('closes at once when disposed, open connections too, however often', async () => {
    const socket = net.connect(Number(endpoint.address.split(':').pop()), '127.0.0.1');
    await once(socket, 'connect');
    const closed = once(socket.resume(), 'close');
    await endpoint[Symbol.asyncDispose]();
    await endpoint[Symbol.asyncDispose]();
    await closed;
    await assert.rejects(get('/'));
  });
});
