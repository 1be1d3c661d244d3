import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type tls from 'node:tls';
import { handMadeCa, handMadeCertificate } from '../test/fixtures/hand-made-certificate.ts';
import {
  bundleOf,
  closed,
  eventually,
  firstBytes,
  Harness,
  ids,
  rawConnect,
  root,
  svidOf,
} from '../test/fixtures/svid-server.ts';
import { OID } from './x509/extensions.ts';
import { encodePem } from './x509/pem.ts';
import { type X509Svid, x509Svid } from './x509-svid.ts';

describe('SvidServer', () => {
  it('hands on a peer that has proven itself', async () => {
    await using harness = await Harness.start({ alpn: ['h2', 'postgresql'] });
    const client = harness.connect(svidOf(ids.web), { ALPNProtocols: ['postgresql'] });
    assert.equal(await firstBytes(client), 'hello');
    const [connection] = harness.connections;
    assert.equal(connection?.peer?.id.toString(), ids.web);
    assert.equal(connection?.address, `127.0.0.1:${client.localPort}`);
    assert.equal(connection?.direct, true);
    assert.equal(connection?.alpn, 'postgresql');
    client.write('ping');
    assert.equal(await firstBytes(client), 'ping');
    client.destroy();
    assert.deepEqual(harness.refusals, []);
  });

  it('sees the intermediates that the peer sends', async () => {
    await using harness = await Harness.start();
    const one = handMadeCa({ issuer: root, name: 'One' });
    const two = handMadeCa({ issuer: one, name: 'Two' });
    const leaf = handMadeCertificate({ issuer: two, uris: [ids.web] });
    const client = harness.connect(x509Svid([leaf.der, two.der, one.der], leaf.key));
    assert.equal(await firstBytes(client), 'hello');
    assert.equal(harness.connections[0]?.peer?.chain.length, 3);
    client.destroy();
  });

  it('lets a client without certificate in where none is required', async () => {
    await using harness = await Harness.start({ client: 'optional' });
    const client = harness.connect();
    assert.equal(await firstBytes(client), 'hello');
    assert.equal(harness.connections[0]?.peer, undefined);
    assert.equal(harness.connections[0]?.alpn, false);
    client.destroy();
  });

  it('names no authorities and trusts none in the handshake itself', async () => {
    await using harness = await Harness.start({ client: 'optional' });
    const client = harness.connect(svidOf(ids.web));
    await firstBytes(client);
    const [connection] = harness.connections;
    assert.equal(connection?.socket.authorized, false);
    assert.equal(connection?.peer?.id.toString(), ids.web);
    client.destroy();
  });

  it('refuses a client without certificate where one is required', async () => {
    await using harness = await Harness.start();
    const client = harness.connect();
    client.write('early');
    await closed(client);
    assert.deepEqual(harness.connections, []);
    assert.deepEqual(harness.refusals, [
      { address: '127.0.0.1', port: harness.port, reason: 'no client certificate' },
    ]);
  });

  const bad: Record<string, [() => X509Svid, string]> = {
    'of an unknown root': [
      () => svidOf(ids.web, { issuer: handMadeCa() }),
      'no trusted authority issued the chain',
    ],
    'of another trust domain': [() => svidOf('spiffe://example.com/web'), 'unknown trust domain'],
    'that has expired': [
      () =>
        svidOf(ids.web, {
          notBefore: new Date(Date.now() - 60_000),
          notAfter: new Date(Date.now() - 1000),
        }),
      'certificate expired',
    ],
    'that is a CA': [() => svidOf(ids.web, { ca: true }), 'leaf is a CA'],
    'for servers alone': [
      () => svidOf(ids.web, { extKeyUsage: [OID.serverAuth] }),
      'leaf lacks server or client purpose',
    ],
    'with the ID of the trust domain': [
      () => svidOf('spiffe://example.org'),
      'leaf has a SPIFFE ID without a path',
    ],
  };
  for (const client of ['required', 'optional'] as const) {
    for (const [what, [svid, reason]] of Object.entries(bad)) {
      it(`ends a client with a certificate ${what} where one is ${client}, and hands on no byte`, async () => {
        await using harness = await Harness.start({ client });
        const socket = harness.connect(svid());
        let received = 0;
        socket.on('data', () => received++);
        socket.write('early');
        await closed(socket);
        assert.equal(received, 0);
        assert.deepEqual(harness.connections, []);
        assert.deepEqual(harness.reasons, [reason]);
      });
    }
  }

  it('refuses a certificate that two names make ambiguous', async () => {
    await using harness = await Harness.start({ client: 'optional' });
    const leaf = handMadeCertificate({ issuer: root, uris: [ids.web, ids.server] });
    const socket = harness.connect(undefined, {
      cert: encodePem('CERTIFICATE', leaf.der),
      key: leaf.key.export({ type: 'pkcs8', format: 'pem' }),
    });
    await closed(socket);
    assert.deepEqual(harness.reasons, ['leaf has not exactly one URI name']);
  });

  it('refuses a client that offers other protocols only', async () => {
    await using harness = await Harness.start({ alpn: ['h2'] });
    await closed(harness.connect(svidOf(ids.web), { ALPNProtocols: ['http/1.1'] }));
    assert.deepEqual(harness.connections, []);
    assert.equal(harness.reasons.length, 1);
    assert.match(harness.reasons[0] ?? '', /^handshake failed: ERR_SSL/);
  });

  it('refuses garbage and lives on', async () => {
    await using harness = await Harness.start();
    for (const garbage of ['GET / HTTP/1.1\r\n\r\n', Buffer.alloc(70_000, 0x16), Buffer.alloc(5)]) {
      const socket = rawConnect(harness.port);
      socket.end(garbage);
      await closed(socket);
    }
    await eventually(() => harness.refusals.length === 3);
    const client = harness.connect(svidOf(ids.web));
    assert.equal(await firstBytes(client), 'hello');
    client.destroy();
  });

  it('tells a client that leaves during the handshake', async () => {
    await using harness = await Harness.start();
    const socket = rawConnect(harness.port);
    await once(socket, 'connect');
    socket.destroy();
    await eventually(() => harness.refusals.length === 1);
    assert.match(
      harness.reasons[0] ?? '',
      /^(closed before the handshake ended|handshake failed: ECONNRESET)$/,
    );
  });

  it('ends a handshake that takes too long', async () => {
    await using harness = await Harness.start({ handshakeTimeoutMs: 100 });
    const silent = rawConnect(harness.port);
    const half = rawConnect(harness.port);
    half.write(Buffer.of(0x16, 3, 1, 2, 0));
    await Promise.all([closed(silent), closed(half)]);
    assert.deepEqual(harness.reasons, ['handshake took too long', 'handshake took too long']);
  });

  it('lets a connection live past the time of its handshake', async () => {
    await using harness = await Harness.start({ handshakeTimeoutMs: 300 });
    const client = harness.connect(svidOf(ids.web));
    await firstBytes(client);
    await sleep(700);
    client.write('still here');
    assert.equal(await firstBytes(client), 'still here');
    client.destroy();
  });

  it('caps connections from one address, also loopback, and counts them down again', async () => {
    await using harness = await Harness.start({ maximumPerAddress: 2 });
    const clients = [harness.connect(svidOf(ids.web)), rawConnect(harness.port)];
    await eventually(() => harness.connections.length === 1);
    await sleep(50);
    await closed(rawConnect(harness.port));
    assert.deepEqual(harness.reasons, ['too many connections from one address']);
    for (const client of clients) client.destroy();
    await eventually(() => harness.refusals.length === 2);
    const next = harness.connect(svidOf(ids.web));
    assert.equal(await firstBytes(next), 'hello');
    next.destroy();
  });

  it('caps all connections', async () => {
    await using harness = await Harness.start({ maximumConnections: 1 });
    const client = harness.connect(svidOf(ids.web));
    await firstBytes(client);
    await closed(rawConnect(harness.port));
    assert.deepEqual(harness.reasons, ['too many connections']);
    client.destroy();
  });

  it('serves a rotated SVID to new connections while old ones live', async () => {
    await using harness = await Harness.start();
    const serialOf = (socket: tls.TLSSocket) =>
      socket.getPeerCertificate().serialNumber.toLowerCase();
    const before = harness.connect(svidOf(ids.web));
    await firstBytes(before);
    const old = harness.svid.value;
    harness.svid.set(svidOf(ids.server));
    await sleep(20);
    const after = harness.connect(svidOf(ids.web));
    await firstBytes(after);
    assert.equal(serialOf(before), old.serial);
    assert.equal(serialOf(after), harness.svid.value.serial);
    before.write('old');
    assert.equal(await firstBytes(before), 'old');
    before.destroy();
    after.destroy();
  });

  it('ends the peers whose root left the bundle, and no other', async () => {
    await using harness = await Harness.start();
    const second = handMadeCa({ name: 'Second' });
    harness.bundles.set(bundleOf(root, second));
    const leaving = harness.connect(svidOf(ids.web));
    const staying = harness.connect(svidOf(ids.web, { issuer: second }));
    await Promise.all([firstBytes(leaving), firstBytes(staying)]);
    harness.bundles.set(bundleOf(second));
    await closed(leaving);
    assert.deepEqual(harness.reasons, ['no trusted authority issued the chain']);
    staying.write('still here');
    assert.equal(await firstBytes(staying), 'still here');
    await closed(harness.connect(svidOf(ids.web)));
    assert.equal(harness.connections.length, 2);
    staying.destroy();
  });

  it('keeps every peer when an authority is added', async () => {
    await using harness = await Harness.start();
    const client = harness.connect(svidOf(ids.web));
    await firstBytes(client);
    harness.bundles.set(bundleOf(handMadeCa({ name: 'Second' }), root));
    await sleep(50);
    client.write('still here');
    assert.equal(await firstBytes(client), 'still here');
    client.destroy();
  });

  it('ends the connections that disconnect names', async () => {
    await using harness = await Harness.start();
    const one = harness.connect(svidOf(ids.web));
    const two = harness.connect(svidOf('spiffe://example.org/other'));
    await Promise.all([firstBytes(one), firstBytes(two)]);
    harness.server.disconnect(({ peer }) => peer?.id.toString() === ids.web);
    await closed(one);
    two.write('still here');
    assert.equal(await firstBytes(two), 'still here');
    two.destroy();
  });

  it('survives a peer that resets its connection', async () => {
    await using harness = await Harness.start();
    const raw = rawConnect(harness.port);
    await once(raw, 'connect');
    await firstBytes(harness.connect(svidOf(ids.web), { socket: raw }));
    const [connection] = harness.connections;
    assert.ok(connection);
    const gone = closed(connection.socket);
    raw.resetAndDestroy();
    await gone;
    assert.deepEqual(harness.refusals, []);
  });

  it('ends everything when it is disposed, twice without harm', async () => {
    const harness = await Harness.start();
    const client = harness.connect(svidOf(ids.web));
    const arriving = rawConnect(harness.port);
    await firstBytes(client);
    const ends = Promise.all([closed(client), closed(arriving)]);
    await harness[Symbol.asyncDispose]();
    await harness[Symbol.asyncDispose]();
    await ends;
    assert.deepEqual(harness.refusals, []);
    await assert.rejects(once(net.connect(harness.port, '127.0.0.1'), 'connect'));
  });

  it('says which address it cannot have', async () => {
    await using harness = await Harness.start();
    await using second = new Harness();
    await assert.rejects(second.server.listen('127.0.0.1', harness.port), {
      code: 'STATE_UNUSABLE',
      message: `cannot listen on 127.0.0.1:${harness.port}: EADDRINUSE`,
    });
  });
});
