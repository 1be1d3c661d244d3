import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { Fault } from '../../runtime/fault.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { SshAuthorities } from '../../test/fakes/ssh-authorities.ts';
import type { AgentEntry } from '../svid/entry.ts';
import { SshCertificateCache } from './certificate-cache.ts';

const entry: AgentEntry = {
  id: 'e1',
  spiffeId: SpiffeId.parse('spiffe://example.org/deploy'),
  selectors: ['unix:uid:0'],
  hint: '',
  revision: 0n,
  createdAt: 0n,
  federatesWith: [],
  onDemand: false,
  freshJwt: false,
};
const TTL_MS = 300_000;

describe('SshCertificateCache', () => {
  const setUp = () => {
    const clock = new FakeClock();
    const authorities = new SshAuthorities(clock);
    const signed: string[] = [];
    let failure: Fault | undefined;
    let refused = 0;
    const cache = new SshCertificateCache({
      clock,
      sign: async ({ id, spiffeId }, publicKey) => {
        if (failure !== undefined) {
          refused += 1;
          throw failure;
        }
        signed.push(id);
        const blob = authorities.issueUser(String(spiffeId), publicKey);
        const certificate = parseSshCertificate(blob);
        return { certificate, hostAuthorities: authorities.keys.host };
      },
    });
    const fail = (fault: Fault | undefined) => {
      failure = fault;
    };
    const serial = async (of = entry) => (await cache.get(of)).certificate.serial;
    return { clock, signed, refusedCalls: () => refused, cache, fail, serial };
  };

  it('gives a certificate together with the key that it is for', async () => {
    const { cache } = setUp();
    const { certificate, key, entry: of } = await cache.get(entry);
    assert.deepEqual(encodePublicKey(createPublicKey(key)), certificate.publicKey);
    assert.equal(of, entry);
  });

  it('hands out the same one until a fifth of its life is over, then another with another key', async () => {
    const { cache, clock } = setUp();
    const first = await cache.get(entry);
    clock.jump(TTL_MS * 0.19);
    assert.equal(await cache.get(entry), first);
    clock.jump(TTL_MS * 0.02);
    const second = await cache.get(entry);
    assert.notEqual(second.certificate.serial, first.certificate.serial);
    assert.ok(!second.certificate.publicKey.equals(first.certificate.publicKey));
  });

  it('hands out no stale one because the clock was set back', async () => {
    const { cache, clock } = setUp();
    const first = await cache.get(entry);
    clock.jump(-3_600_000);
    await clock.advance(TTL_MS * 0.21);
    assert.notEqual((await cache.get(entry)).certificate.serial, first.certificate.serial);
  });

  it('asks once for callers that want it at the same time', async () => {
    const { cache, signed } = setUp();
    await Promise.all([cache.get(entry), cache.get(entry)]);
    assert.deepEqual(signed, ['e1']);
  });

  it('keeps entries apart, and an entry from what it was before', async () => {
    const { serial } = setUp();
    const others = [
      { ...entry, id: 'e2' },
      { ...entry, revision: 1n },
      { ...entry, createdAt: 1n },
      { ...entry, spiffeId: SpiffeId.parse('spiffe://example.org/other') },
    ];
    const serials = await Promise.all([entry, ...others].map((one) => serial(one)));
    assert.equal(new Set(serials).size, 5);
    assert.equal(await serial(), serials[0]);
  });

  it('hands out what it has while the server is away, until that is about to end', async () => {
    const { clock, fail, serial } = setUp();
    const first = await serial();
    fail(new Fault('UNAVAILABLE', 'away'));
    clock.jump(TTL_MS - 6000);
    assert.equal(await serial(), first);
    clock.jump(1000);
    await assert.rejects(serial(), { code: 'UNAVAILABLE' });
  });

  it('forgets a certificate once the server refuses another', async () => {
    const { clock, fail, serial } = setUp();
    const first = await serial();
    clock.jump(TTL_MS * 0.5);
    fail(new Fault('PERMISSION_DENIED', 'locked'));
    await assert.rejects(serial(), { code: 'PERMISSION_DENIED' });
    await clock.advance(1000);
    fail(new Fault('UNAVAILABLE', 'away'));
    await assert.rejects(serial(), { code: 'UNAVAILABLE' });
    await clock.advance(1000);
    fail(undefined);
    assert.notEqual(await serial(), first);
  });

  for (const code of ['PERMISSION_DENIED', 'UNAVAILABLE'] as const) {
    it(`asks a server that answered ${code} again after a second, not in a loop`, async () => {
      const { clock, fail, serial, refusedCalls } = setUp();
      fail(new Fault(code, 'no'));
      for (let n = 0; n < 50; n += 1) await assert.rejects(serial(), { code });
      assert.equal(refusedCalls(), 1);
      await clock.advance(1000);
      await assert.rejects(serial(), { code });
      assert.equal(refusedCalls(), 2);
      fail(undefined);
      await clock.advance(1000);
      assert.ok(await serial());
    });
  }

  it('hands out what it has at once, in the second after the server could not be asked', async () => {
    const { clock, fail, serial, refusedCalls } = setUp();
    const first = await serial();
    fail(new Fault('UNAVAILABLE', 'away'));
    clock.jump(TTL_MS * 0.5);
    for (let n = 0; n < 50; n += 1) assert.equal(await serial(), first);
    assert.equal(refusedCalls(), 1);
  });

  it('holds a thousand at most', async () => {
    const { cache, signed } = setUp();
    const some = Array.from({ length: 1001 }, (_, at) => ({ ...entry, id: `e${at}` }));
    for (const one of some) await cache.get(one);
    await cache.get({ ...entry, id: 'e1000' });
    assert.equal(signed.length, 1001);
    await cache.get({ ...entry, id: 'e0' });
    assert.equal(signed.length, 1002);
  });
});
