import assert from 'node:assert/strict';
import type { Bundle } from '../../identity/bundle.ts';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { verifySvid } from '../../identity/verify.ts';
import { AuthorityWorld, idOf, statesOf, WEB } from '../../test/fixtures/authority-world.ts';
import { OPERATOR } from '../../test/fixtures/registry-world.ts';
import type { Authorities } from './authorities.ts';
import type { Authority } from './authority.ts';
import type { AuthorityRow } from './authority-rows.ts';
import { rowsOfKind } from './authority-state.ts';
import { rotateForever } from './rotation.ts';
import { activateAt, prepareAt, pruneAt } from './rotation-plan.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

interface Live {
  readonly notAfter: Date;
  verify(bundle: Bundle): void;
}

/** Signs and verifies as workloads do: all that lives against the bundle in force, and it alone. */
class Workloads {
  readonly #world: AuthorityWorld;
  #live: Live[] = [];
  signed = 0;

  constructor(world: AuthorityWorld) {
    this.#world = world;
  }

  async sign(authority: Authority, known: Bundle): Promise<void> {
    const { store, clock } = this.#world;
    const { chain, notAfter } = await this.#world.sign(authority, 10);
    const { token, expiresAt } = await store.transaction((tx) =>
      authority.signJwt(tx, {
        ...{ id: WEB, audience: ['db'], actor: OPERATOR },
        notAfter: this.#world.inSeconds(10),
      }),
    );
    const now = () => clock.now();
    const x509 = { notAfter, verify: (b: Bundle) => void verifySvid(chain, () => b, now()) };
    const jwt = {
      notAfter: expiresAt,
      verify: (b: Bundle) => void verifyJwtSvid(token, 'db', () => b, now()),
    };
    // Known before its first signature, to one who has the bundle of a moment ago.
    for (const one of [x509, jwt]) one.verify(known);
    this.#live.push(x509, jwt);
    this.signed += 2;
  }

  verify(bundle: Bundle): void {
    this.#live = this.#live.filter(({ notAfter }) => notAfter > this.#world.clock.now());
    for (const one of this.#live) one.verify(bundle);
  }
}

describe('rotate', () => {
  const settings = { ttlSeconds: 60, sshTtlSeconds: 600 };
  let world: AuthorityWorld;
  beforeEach(async () => {
    world = await AuthorityWorld.create({ settings });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  it('keeps all that lives verifiable through ten lives of an authority, restarts included', async () => {
    let authorities = await world.open();
    const workloads = new Workloads(world);
    const signers = new Set<string>();
    let known = authorities.state.value.bundle;
    for (let second = 0; second < 600; second++) {
      await world.rotate(authorities);
      if (second % 7 === 0) authorities = await world.open();
      const authority = world.signing(authorities);
      signers.add(idOf(authorities, 'x509', 'active'));
      await workloads.sign(authority, known);
      workloads.verify(authority.bundle.value);
      workloads.verify(known);
      known = authority.bundle.value;
      world.clock.advance(1000);
    }
    assert.equal(workloads.signed, 1200);
    // Each is prepared half a life after the one before it.
    assert.equal(signers.size, 20);
    const { x509Authorities, jwtAuthorities } = known;
    assert.ok(x509Authorities.length <= 22 && jwtAuthorities.length <= 22);
    const rows = authorities.state.value.authorities;
    assert.equal(world.keys.size, rows.length);
  }).timeout(60_000);

  it('prepares at half of its life and activates when a sixth is left', async () => {
    const authorities = await world.open();
    const steps: string[] = [];
    for (let second = 0; second < 60; second++) {
      await world.rotate(authorities);
      const states = statesOf(authorities, 'x509').join(' ');
      if (!(steps.at(-1) ?? '').endsWith(states)) steps.push(`${second} ${states}`);
      world.clock.advance(1000);
    }
    assert.deepEqual(steps, ['0 active', '30 active prepared', '50 active old']);
  });

  it('changes SSH authorities too, and forgets an old one when it ends', async () => {
    const authorities = await world.open();
    const steps: string[] = [];
    for (let second = 0; second <= 590; second += 10) {
      await world.rotate(authorities);
      const states = statesOf(authorities, 'ssh-user').join(' ');
      if (!(steps.at(-1) ?? '').endsWith(states)) steps.push(`${second} ${states}`);
      world.clock.advance(10_000);
    }
    assert.deepEqual(steps, ['0 active', '300 active prepared', '500 active old']);
    await world.rotate(authorities);
    assert.deepEqual(statesOf(authorities, 'ssh-user'), ['active', 'prepared']);
  });

  it('has an authority that signs at once when the clock has jumped past the end of all', async () => {
    const authorities = await world.open();
    world.clock.advance(40_000);
    await world.rotate(authorities);
    const before = authorities.state.value.bundle;
    world.clock.advance(30 * DAY_MS);
    await assert.rejects(world.sign(world.signing(authorities)), { code: 'FAILED_PRECONDITION' });
    await world.rotate(authorities);
    const { chain } = await world.sign(world.signing(authorities));
    const { bundle } = authorities.state.value;
    verifySvid(chain, () => bundle, world.clock.now());
    assert.equal(bundle.x509Authorities.length, 1);
    assert.ok(bundle.sequenceNumber > before.sequenceNumber);
  });

  it('publishes a successor that came late before it signs', async () => {
    const authorities = await world.open();
    world.clock.advance(54_000);
    await world.rotate(authorities);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'prepared']);
    world.clock.advance(3000);
    await world.rotate(authorities);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'old']);
  });

  it('leaves an authority of another life time to its own end', async () => {
    await using old = await AuthorityWorld.create({ settings: { ttlSeconds: 365 * 24 * 3600 } });
    const id = idOf(await old.open(), 'x509', 'active');
    old.clock.advance(100 * DAY_MS);
    const authorities = await old.open();
    await old.rotate(authorities);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active']);
    assert.equal(idOf(authorities, 'x509', 'active'), id);
    old.clock.advance(236 * DAY_MS);
    await old.rotate(authorities);
    assert.deepEqual(statesOf(authorities, 'x509'), ['active', 'prepared']);
    old.clock.advance(23 * DAY_MS);
    await old.rotate(authorities);
    assert.equal(idOf(authorities, 'x509', 'old'), id);
  });
});

describe('rotateForever', () => {
  it('goes on by itself, and with what another hand has changed', async () => {
    await using world = await AuthorityWorld.create({ settings: { ttlSeconds: 60 } });
    const authorities = await world.open();
    const { clock, log } = world;
    await using _ = rotateForever({ authorities, clock, log });
    const becomes = (expected: readonly string[]) => untilStates(authorities, expected);
    await world.prepare(authorities, 'x509');
    clock.advance(50_000);
    await becomes(['active', 'prepared', 'old']);
    clock.advance(5000);
    await becomes(['active', 'old', 'old']);
  });
});

async function untilStates(authorities: Authorities, expected: readonly string[]): Promise<void> {
  const stop = AbortSignal.timeout(20_000);
  for await (const _ of authorities.state.values(stop))
    if (statesOf(authorities, 'x509').join() === expected.join()) return;
  assert.deepEqual(statesOf(authorities, 'x509'), expected);
}

describe('rotation plan', () => {
  const start = new Date('2026-01-01T00:00:00Z');
  const at = (milliseconds: number) => new Date(start.getTime() + milliseconds);
  const row = (life: number, change: Partial<AuthorityRow> = {}): AuthorityRow => ({
    ...{ id: 'a', kind: 'x509', state: 'active', certificate: undefined, chain: [] },
    ...{ upstreamId: '', keyName: 'k', tainted: false, taintedAt: undefined },
    publicKey: key,
    ...{ notBefore: start, notAfter: at(life) },
    ...change,
  });
  let key: AuthorityRow['publicKey'];
  before(async () => {
    await using world = await AuthorityWorld.create();
    const [first] = rowsOfKind((await world.open()).state.value, 'x509');
    assert.ok(first !== undefined);
    key = first.publicKey;
  });

  for (const [life, prepared, activated, pruned] of [
    [DAY_MS, 12 * HOUR_MS, 20 * HOUR_MS, 2 * DAY_MS],
    [365 * DAY_MS, 335 * DAY_MS, 358 * DAY_MS, 366 * DAY_MS],
    [HOUR_MS, HOUR_MS / 2, (HOUR_MS * 5) / 6, HOUR_MS + DAY_MS],
    [60_000, 30_000, 50_000, 25 * 60_000],
  ] as const)
    it(`of a life of ${life / 1000} s`, () => {
      const active = row(life);
      const next = row(life, { notBefore: at(prepared), notAfter: at(prepared + life) });
      assert.deepEqual(prepareAt(active), at(prepared));
      assert.deepEqual(activateAt(active, next), at(activated));
      assert.deepEqual(pruneAt(active), at(pruned));
    });

  it('forgets what signed for SSH when it ends', () => {
    assert.deepEqual(pruneAt(row(DAY_MS, { kind: 'ssh-host' })), at(DAY_MS));
  });
});
