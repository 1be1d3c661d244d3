import assert from 'node:assert/strict';
import { join } from 'node:path';
import * as v from 'valibot';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { createLogger } from '../../../runtime/log.ts';
import { AgentUnderTest } from '../../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../../test/fakes/spire-server.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { unusedPort } from '../../../test/fixtures/unused-port.ts';
import { SpireUpstream } from './spire.ts';
import { upstreamAuthoritySchema } from './upstream-config.ts';

const TD = parseTrustDomain('example.org');
const log = createLogger({ process: 'server', level: 'silent' });
const clock = systemClock;
const SIGNAL = new AbortController().signal;
const CSR = Buffer.from('a request');

describe('SpireUpstream', () => {
  describe('without an agent', () => {
    let dir: ReturnType<typeof temporaryDir>;
    beforeEach(() => {
      dir = temporaryDir();
    });
    afterEach(() => dir[Symbol.dispose]());
    const upstream = (svidTimeoutMs: number) =>
      new SpireUpstream({
        ...{ trustDomain: TD, server: '127.0.0.1:1', clock, log, svidTimeoutMs },
        workloadApiSocket: join(dir.path, 'none.sock'),
      });

    it('is out of reach, each time that it is asked', async () => {
      await using absent = upstream(50);
      for (let time = 0; time < 2; time += 1)
        await assert.rejects(absent.mint(CSR, 60, SIGNAL), {
          code: 'UNAVAILABLE',
          message: `upstream_authority.spire: no SVID from ${dir.path}/none.sock`,
        });
    });

    it('waits no longer than until it is disposed', async () => {
      const absent = upstream(3_600_000);
      const minting = assert.rejects(absent.mint(CSR, 60, SIGNAL), { code: 'UNAVAILABLE' });
      await absent[Symbol.asyncDispose]();
      await minting;
    });
  });

  describe('with the SVID of an agent', () => {
    let server: FakeSpireServer;
    let agent: AgentUnderTest;
    before(async () => {
      server = await FakeSpireServer.start({ authority: await FakeAuthority.create(TD) });
      server.setEntries([
        {
          ...{ id: 'nested', spiffeId: { trustDomain: TD, path: '/nested' }, createdAt: 1n },
          selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
        },
      ]);
      agent = await AgentUnderTest.create(server);
      await agent.start();
    });
    after(async () => {
      await agent[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    });
    const upstream = (address: string, trustDomain = TD) =>
      new SpireUpstream({
        ...{ trustDomain, server: address, clock, log },
        workloadApiSocket: agent.socketPath,
      });

    it('is out of reach while nobody answers at the address', async () => {
      await using away = upstream(`127.0.0.1:${await unusedPort()}`);
      await assert.rejects(away.mint(CSR, 60, SIGNAL), {
        code: 'UNAVAILABLE',
        message: 'upstream_authority.spire: the server above answers UNAVAILABLE',
      });
    });

    it('refuses what the server above refuses', async () => {
      await using refusing = upstream(server.address);
      await assert.rejects(refusing.mint(CSR, 60, SIGNAL), { code: 'FAILED_PRECONDITION' });
    });

    it('is one of the same trust domain', async () => {
      await using other = upstream(server.address, parseTrustDomain('other.org'));
      await assert.rejects(other.mint(CSR, 60, SIGNAL), {
        code: 'FAILED_PRECONDITION',
        message: /not one of other\.org/,
      });
    });
  });
});

describe('upstreamAuthoritySchema', () => {
  const disk = { cert_file: '/a', key_file: '/b' };
  const spire = { server: 'root.example.org:8081', workload_api_socket: '/run/api.sock' };
  const isGood = (section: unknown) => v.safeParse(upstreamAuthoritySchema, section).success;

  it('takes one upstream, with all that it needs and nothing else', () => {
    for (const good of [{ disk }, { disk: { ...disk, bundle_file: '/c' } }, { spire }])
      assert.ok(isGood(good));
    for (const bad of [
      {},
      { disk, spire },
      { disk: { cert_file: '/a' } },
      { disk: { ...disk, key: 'x' } },
      { disk: { ...disk, key_file: 'relative' } },
      { spire: { server: spire.server } },
      { vault: {} },
    ])
      assert.ok(!isGood(bad), JSON.stringify(bad));
  });
});
