import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { systemClock } from '../runtime/clock.ts';
import { hasProgram, skipWithout } from '../test/fixtures/programs.ts';
import {
  bundleOf,
  closed,
  firstBytes,
  Harness,
  ids,
  root,
  svidOf,
} from '../test/fixtures/svid-server.ts';
import { authorizeAny } from './authorizer.ts';
import { svidClientTls, tlsConnectOptions } from './tls.ts';
import { DerReader } from './x509/der.ts';
import { encodePem } from './x509/pem.ts';

describe('S3 no session is resumed', () => {
  it('S3 gives a client nothing that a session could be resumed from', async () => {
    await using harness = await Harness.start();
    const sessions: Buffer[] = [];
    const first = harness.connect(svidOf(ids.web));
    first.on('session', (session) => sessions.push(session));
    await firstBytes(first);
    await sleep(50);
    first.destroy();
    for (const session of sessions) {
      // OpenSSL's SSL_SESSION: [10] is the ticket. 32 bytes are a number, not a session.
      const parts = DerReader.inside(DerReader.only(session, 0x30));
      while (!parts.done) {
        const part = parts.any();
        if (part.tag === 0xaa) assert.equal(DerReader.only(part.content, 4).content.length, 32);
      }
      const again = harness.connect(undefined, { session });
      await once(again, 'secureConnect');
      assert.equal(again.isSessionReused(), false);
      await closed(again);
    }
    assert.equal(harness.connections.length, 1);
    assert.deepEqual(
      harness.reasons,
      sessions.map(() => 'no client certificate'),
    );
  });

  it('S3 openssl with a saved session and no certificate gets nothing', async function () {
    if (!hasProgram('openssl')) skipWithout(this, 'openssl');
    await using harness = await Harness.start();
    const dir = mkdtempSync(join(tmpdir(), 'writ-tls-'));
    try {
      const svid = svidOf(ids.web);
      const files = {
        cert: join(dir, 'cert.pem'),
        key: join(dir, 'key.pem'),
        session: join(dir, 's'),
      };
      writeFileSync(files.cert, encodePem('CERTIFICATE', svid.chain[0] ?? Buffer.alloc(0)));
      writeFileSync(files.key, svid.privateKey.export({ type: 'pkcs8', format: 'pem' }), {
        mode: 0o600,
      });
      const withKey = ['-cert', files.cert, '-key', files.key];
      const saved = await sClient(harness.port, [...withKey, '-sess_out', files.session]);
      assert.match(saved, /hello/);
      assert.match(saved, /New, TLSv1\.3/);
      assert.equal(harness.connections.length, 1);

      const resumed = await sClient(harness.port, ['-sess_in', files.session]);
      assert.doesNotMatch(resumed, /hello|Reused/);
      assert.equal(harness.connections.length, 1);
      assert.deepEqual(harness.reasons, ['no client certificate']);

      const again = await sClient(harness.port, [...withKey, '-sess_in', files.session]);
      assert.match(again, /New, TLSv1\.3/);
      assert.doesNotMatch(again, /Reused/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe('S4 TLS 1.3 alone', () => {
  for (const version of ['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const) {
    it(`S4 refuses ${version}`, async () => {
      await using harness = await Harness.start({ client: 'optional' });
      const older = {
        minVersion: version,
        maxVersion: version,
        ciphers: 'DEFAULT:@SECLEVEL=0',
      } as const;
      await closed(harness.connect(svidOf(ids.web), older));
      assert.deepEqual(harness.connections, []);
      assert.deepEqual(harness.reasons, ['handshake failed: ERR_SSL_UNSUPPORTED_PROTOCOL']);
    });
  }

  it('S4 refuses openssl with -tls1_2', async function () {
    if (!hasProgram('openssl')) skipWithout(this, 'openssl');
    await using harness = await Harness.start({ client: 'optional' });
    const said = await sClient(harness.port, ['-tls1_2']);
    assert.match(said, /protocol version/);
    assert.deepEqual(harness.reasons, ['handshake failed: ERR_SSL_UNSUPPORTED_PROTOCOL']);
  });

  it('S4 is kept when the SVID is rotated', async () => {
    await using harness = await Harness.start({ client: 'optional' });
    harness.svid.set(svidOf(ids.server));
    await sleep(20);
    const older = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
    await closed(harness.connect(svidOf(ids.web), older));
    assert.deepEqual(harness.connections, []);
  });

  it('S4 its client refuses a server of TLS 1.2', async () => {
    const { chain, privateKey } = svidOf(ids.server);
    const server = tls.createServer({
      cert: encodePem('CERTIFICATE', chain[0] ?? Buffer.alloc(0)),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
      maxVersion: 'TLSv1.2',
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const options = svidClientTls({
      bundle: bundleOf(root),
      authorize: authorizeAny(),
      clock: systemClock,
    });
    const { port } = server.address() as net.AddressInfo;
    const client = tls.connect({ host: '127.0.0.1', port, ...tlsConnectOptions(options) });
    await assert.rejects(once(client, 'secureConnect'), /protocol version/i);
    server.close();
  });
});

/** What `openssl s_client` prints, ended a little after it began. */
async function sClient(port: number, args: readonly string[]): Promise<string> {
  const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args]);
  let said = '';
  child.stdout.on('data', (bytes) => {
    said += bytes;
  });
  child.stderr.on('data', (bytes) => {
    said += bytes;
  });
  child.stdin.on('error', () => undefined);
  const timer = sleep(500).then(() => child.stdin.end());
  await once(child, 'close');
  await timer;
  return said;
}
