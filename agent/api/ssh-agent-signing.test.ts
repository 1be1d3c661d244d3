import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { publicKeyLine } from '../../identity/ssh/public-key.ts';
import { verifySsh } from '../../identity/ssh/signature.ts';
import { SshWriter } from '../../identity/ssh/wire.ts';
import { systemClock } from '../../runtime/clock.ts';
import { SshAuthorities } from '../../test/fakes/ssh-authorities.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import {
  AGENT_FAILURE,
  AGENT_SUCCESS,
  fakeSession,
  loginData,
} from '../../test/fixtures/ssh-agent-client.ts';
import { SshAgentWorld, sshEntry } from '../../test/fixtures/ssh-agent-world.ts';

describe('signing at the ssh-agent socket', () => {
  let world: SshAgentWorld;
  before(async () => {
    world = await SshAgentWorld.start();
  });
  after(() => world[Symbol.asyncDispose]());
  const certify = (key: KeyObject) => world.ssh.issueHost(['web-1'], key);

  beforeEach(async () => {
    world.server.setEntries([sshEntry('a')]);
    await world.untilOffered('a');
  });

  const ready = async (session = fakeSession(certify)) => {
    const client = await world.connect();
    const [offered] = await client.identities();
    assert.ok(offered);
    return { client, session, blob: offered.publicKey };
  };

  it('is done for a login on the connection that was shown', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    assert.equal(await client.bind(session), AGENT_SUCCESS);
    for (const change of [{}, { hostKey: session.hostKey }]) {
      const data = loginData(session, blob, change);
      const signature = await client.sign(blob, data);
      assert.ok(Buffer.isBuffer(signature));
      assert.ok(verifySsh(parseSshCertificate(blob).key, data, signature));
    }
    assert.ok((await world.counted('sign', 'ok')) >= 2);
  });

  it('goes on with the certificate that was offered when another has taken its place', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    world.server.setEntries([sshEntry('a', { revisionNumber: 1n })]);
    for (let n = 0; n < 100; n += 1) {
      using other = await world.connect();
      const [newest] = await other.identities();
      if (newest !== undefined && !newest.publicKey.equals(blob)) break;
      assert.ok(n < 99, 'the certificate was not renewed');
      await sleep(20);
    }
    await client.bind(session);
    assert.ok(Buffer.isBuffer(await client.sign(blob, loginData(session, blob))));
  });

  it('ends with the identity', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    await client.bind(session);
    assert.ok(Buffer.isBuffer(await client.sign(blob, loginData(session, blob))));
    world.server.setEntries([]);
    await world.untilOffered();
    assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
  });

  it('is refused without a session-bind, and for a connection other than the one bound', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
    await client.bind(session);
    const other = fakeSession(certify);
    assert.equal(await client.sign(blob, loginData(other, blob)), AGENT_FAILURE);
    const elsewhere = loginData(session, blob, { hostKey: other.hostKey });
    assert.equal(await client.sign(blob, elsewhere), AGENT_FAILURE);
    assert.ok((await world.counted('sign', 'refused')) >= 3);
  });

  it('is refused towards a plain host key and a host of another authority', async () => {
    const foreign = new SshAuthorities(systemClock);
    for (const session of [
      fakeSession(),
      fakeSession((key) => foreign.issueHost(['web-1'], key)),
      fakeSession((key) => world.ssh.issueHost(['web-1'], key, { validBefore: new Date() })),
    ]) {
      const { client, blob } = await ready();
      using _ = client;
      assert.equal(await client.bind(session), AGENT_SUCCESS);
      assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
    }
  });

  it('is refused to a forwarded agent, which is offered nothing either', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    assert.equal(await client.bind({ ...session, forwarding: true }), AGENT_SUCCESS);
    assert.equal(await client.bind(session), AGENT_FAILURE);
    assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
    assert.deepEqual(await client.identities(), []);
  });

  it('is not lent to a session that its host did not sign, nor is that tried twice', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    const forged = { ...session, signature: fakeSession(certify).signature };
    assert.equal(await client.bind(forged), AGENT_FAILURE);
    assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
    assert.equal(await client.bind(session), AGENT_FAILURE);
    assert.equal(await client.sign(blob, loginData(session, blob)), AGENT_FAILURE);
  });

  it('is not lent to a second session', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    const other = fakeSession(certify);
    assert.equal(await client.bind(session), AGENT_SUCCESS);
    assert.equal(await client.bind(other), AGENT_FAILURE);
    assert.equal(await client.sign(blob, loginData(other, blob)), AGENT_FAILURE);
    assert.ok(Buffer.isBuffer(await client.sign(blob, loginData(session, blob))));
  });

  it('is refused with a certificate that this connection was not offered', async () => {
    const { client, session, blob } = await ready();
    client.socket.destroy();
    using other = await world.connect();
    await other.bind(session);
    assert.equal(await other.sign(blob, loginData(session, blob)), AGENT_FAILURE);
    await other.identities();
    assert.ok(Buffer.isBuffer(await other.sign(blob, loginData(session, blob))));
  });

  it('is refused for what is no login, on a connection that may log in', async () => {
    const { client, session, blob } = await ready();
    using _ = client;
    await client.bind(session);
    // Source: OpenSSH, PROTOCOL.sshsig.
    const writer = new SshWriter().raw(Buffer.from('SSHSIG')).string('file').string('');
    const sshsig = writer.string('sha512').string(Buffer.alloc(64)).finish();
    for (const data of [sshsig, Buffer.alloc(0), Buffer.alloc(32), session.sessionId]) {
      assert.equal(await client.sign(blob, data), AGENT_FAILURE);
    }
    assert.ok(Buffer.isBuffer(await client.sign(blob, loginData(session, blob))));
  });

  it('is refused to ssh-keygen, which would sign a file', async function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    const file = join(world.directory, 'message');
    const keys = join(world.directory, 'offered.pub');
    const [offered] = await world.connect().then(async (client) => {
      using _ = client;
      return await client.identities();
    });
    assert.ok(offered);
    await writeFile(file, 'sign this');
    const plain = parseSshCertificate(offered.publicKey).publicKey;
    for (const blob of [offered.publicKey, plain]) {
      const before = await world.counted('sign', 'refused');
      await writeFile(keys, `${publicKeyLine(blob)}\n`);
      const args = ['-Y', 'sign', '-f', keys, '-n', 'file', file];
      const { status, stderr } = await world.run(['ssh-keygen', ...args]);
      assert.notEqual(status, 0);
      assert.match(stderr, /agent refused operation/);
      assert.equal(await world.counted('sign', 'refused'), before + 1);
      await assert.rejects(stat(`${file}.sig`));
    }
  });
});
