import assert from 'node:assert/strict';
import { randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { verifySvid } from '../identity/verify.ts';
import { createCsr } from '../identity/x509/csr.ts';
import { generateKey } from '../identity/x509/key.ts';
import { svidPem, x509Svid } from '../identity/x509-svid.ts';
import { Health } from '../proto/gen/grpc/health/v1/health_pb.ts';
import { Bundle } from '../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { IdentityService } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { handMadeCa, handMadeCertificate } from '../test/fixtures/hand-made-certificate.ts';
import { TD } from '../test/fixtures/registry-world.ts';
import {
  CALL,
  denialOf,
  firstSync,
  RunningServer,
  temporaryDir,
  until,
} from '../test/fixtures/running-server.ts';

describe('runServer', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it("takes an agent from its token to its workloads' SVIDs", async () => {
    const { svid, channel } = await server.newAgent();
    assert.match(svid.id.path, /^\/spire\/agent\/join_token\/j_[a-z2-7]{26}$/);
    const entry = await server.entryUnder(svid, '/flow', { hint: 'main', dnsNames: ['flow.test'] });

    const { entries, entryRevisions, more } = await firstSync(channel);
    assert.deepEqual([entries.map(({ id }) => id), entryRevisions, more], [[entry.id], [], false]);

    const key = await generateKey('ec-p256');
    const params = [{ entryId: entry.id, csr: createCsr(key) }];
    const { results } = await channel.client(SVID).batchNewX509SVID({ params }, CALL);
    const issued = results[0]?.svid;
    assert.deepEqual([results[0]?.status?.code, issued?.hint], [0, 'main']);
    const bundle = await server.bundle();
    const verified = verifySvid(issued?.certChain ?? [], () => bundle, new Date());
    assert.equal(verified.id.toString(), `spiffe://${TD}/flow`);
    const certificate = new X509Certificate(issued?.certChain[0] ?? Buffer.alloc(0));
    assert.match(certificate.subjectAltName ?? '', /DNS:flow.test/);
    assert.match(certificate.subject, /CN=flow.test/);

    const jwt = (
      await channel.client(SVID).newJWTSVID({ entryId: entry.id, audience: ['db', 'q'] }, CALL)
    ).svid;
    assert.ok(jwt && jwt.issuedAt <= jwt.expiresAt && jwt.expiresAt - jwt.issuedAt === 300n);

    const told = (await server.events()).filter(({ entryId }) => entryId === entry.id);
    assert.deepEqual(
      told.map(({ type, attributes }) => [type, attributes.kind]),
      [
        ['entry.created', undefined],
        ['identity.svid.issued', 'x509'],
        ['identity.svid.issued', 'jwt'],
      ],
    );
    assert.deepEqual(
      [told[0]?.actor?.kind, told[0]?.actor?.pid, told[0]?.actor?.executable],
      ['operator', process.pid, process.execPath],
    );
    assert.deepEqual(
      [told[1]?.svidSerial, told[1]?.agentId],
      [verified.serial, svid.id.toString()],
    );
  });

  it('lets a caller without certificate attest and get the bundle, and nothing more', async () => {
    const channel = await server.dial();
    assert.equal((await channel.client(Bundle).getBundle({}, CALL)).trustDomain, TD);
    assert.equal(await denialOf(firstSync(channel)), undefined);
    const list = channel.client(Entry).listEntries({}, CALL);
    await assert.rejects(list, { status: 'PERMISSION_DENIED' });
  });

  it("serves health and operators' services on the admin socket alone", async () => {
    assert.equal((await server.admin(Health).check({}, CALL)).status, 1);
    const { channel } = await server.newAgent();
    await assert.rejects(channel.client(Health).check({}, CALL), { status: 'UNIMPLEMENTED' });
    const list = channel.client(IdentityService).listIdentities({}, CALL);
    await assert.rejects(list, { status: 'UNIMPLEMENTED' });
    assert.equal(statSync(server.facts.adminSocket).mode & 0o777, 0o600);
  });

  it('destroys a connection with a certificate of a stranger, and audits it', async () => {
    const stranger = handMadeCertificate({
      issuer: handMadeCa(),
      uris: [`spiffe://${TD}/spire/agent/join_token/x`],
    });
    const { certificates, key } = svidPem(x509Svid([stranger.der], stranger.key));
    const [host = '', port = ''] = server.facts.address.split(':');
    const socket = tls.connect({
      ...{ host, port: Number(port), cert: certificates, key, ALPNProtocols: ['h2'] },
      rejectUnauthorized: false,
    });
    socket.on('error', () => undefined);
    await once(socket, 'close');
    const refusals = async () =>
      (await server.events()).filter(({ type }) => type === 'connection.refused');
    await until(async () => (await refusals()).length > 0);
    const [event] = await refusals();
    assert.deepEqual([event?.actor?.address, event?.attributes.port], ['127.0.0.1', port]);
  });

  it('goes on after garbage at either door', async () => {
    const [host = '', port = ''] = server.facts.address.split(':');
    const doors = [{ host, port: Number(port) }, { path: server.facts.adminSocket }];
    for (const door of doors) {
      const socket = net.connect(door).on('error', () => undefined);
      socket.end(randomBytes(4096));
      socket.resume();
      await once(socket, 'close');
    }
    assert.equal((await server.admin(Health).check({}, CALL)).status, 1);
    assert.ok(await server.newAgent());
  });

  describe('starting', () => {
    it('goes on with the same authority after a restart', async () => {
      using dir = temporaryDir();
      const pems = [];
      for (let start = 0; start < 2; start += 1) {
        await using again = await RunningServer.start({ stateDir: dir.path });
        pems.push((await again.bundle()).x509Authorities.map(({ der }) => Buffer.from(der)));
      }
      assert.equal(pems[0]?.length, 1);
      assert.deepEqual(pems[1], pems[0]);
    });

    it('refuses a second server on the same state', async () => {
      using dir = temporaryDir();
      await using _ = await RunningServer.start({ stateDir: dir.path });
      await assert.rejects(RunningServer.start({ stateDir: dir.path }), {
        code: 'STATE_UNUSABLE',
        message: /another process listens/,
      });
    });

    it('refuses a port that is taken', async () => {
      const taken = net.createServer().listen(0, '127.0.0.1');
      await once(taken, 'listening');
      const { port } = taken.address() as net.AddressInfo;
      const started = RunningServer.start({ config: { listen: `127.0.0.1:${port}` } });
      await assert.rejects(started, {
        code: 'STATE_UNUSABLE',
        message: new RegExp(`127.0.0.1:${port}`),
      });
      taken.close();
    });

    it('refuses the state of another trust domain', async () => {
      using dir = temporaryDir();
      await (await RunningServer.start({ stateDir: dir.path }))[Symbol.asyncDispose]();
      const other = RunningServer.start({
        stateDir: dir.path,
        config: { trust_domain: 'other.org' },
      });
      await assert.rejects(other, {
        code: 'STATE_UNUSABLE',
        message: /example.org, not other.org/,
      });
    });

    it('refuses a state directory that is a file', async () => {
      using dir = temporaryDir();
      const stateDir = join(dir.path, 'file');
      writeFileSync(stateDir, '');
      await assert.rejects(RunningServer.start({ stateDir }), { code: 'STATE_UNUSABLE' });
    });

    it('refuses a clock more than five minutes behind the highest time seen', async () => {
      using dir = temporaryDir();
      await (await RunningServer.start({ stateDir: dir.path }))[Symbol.asyncDispose]();
      const behind = (minutes: number): Clock => {
        const ms = minutes * 60_000;
        return {
          ...systemClock,
          now: () => new Date(Date.now() - ms),
          waitUntil: (at, signal) => systemClock.waitUntil(new Date(at.getTime() + ms), signal),
        };
      };
      const late = RunningServer.start({ stateDir: dir.path, clock: behind(6) });
      await assert.rejects(late, { code: 'STATE_UNUSABLE', message: /the clock says/ });
      await using _ = await RunningServer.start({ stateDir: dir.path, clock: behind(4) });
    });
  });
});
