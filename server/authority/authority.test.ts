import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { bundlePin } from '../../identity/bundle.ts';
import { verifyJwtSvid } from '../../identity/jwt-svid.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { createLogger } from '../../runtime/log.ts';
import { ManualClock, memoryKeyManager, OPERATOR, TD } from '../../test/fixtures/registry-world.ts';
import { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { openSqlite } from '../plugins/datastore/sqlite.ts';
import { Authority } from './authority.ts';

const WEB = SpiffeId.parse(`spiffe://${TD}/web`);
const YEAR_MS = 365 * 24 * 3_600_000;

describe('Authority', () => {
  const clock = new ManualClock();
  let store: Datastore;
  let keys: Map<string, KeyObject>;
  const issued: string[] = [];
  beforeEach(async () => {
    store = await openSqlite(':memory:');
    keys = new Map();
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const open = () =>
    Authority.open({
      ...{ store, clock, trustDomain: TD },
      audit: new AuditLog(store, clock),
      keys: memoryKeyManager(keys),
      log: createLogger({ process: 'server', level: 'silent' }),
      onIssued: (kind) => issued.push(kind),
    });
  const inSeconds = (seconds: number) => new Date(clock.now().getTime() + seconds * 1000);
  const sign = async (authority: Authority, notAfter = inSeconds(60)) => {
    const spki = spkiOf(await generateKey('ec-p256'));
    return store.transaction((tx) =>
      authority.signX509(tx, {
        kind: 'x509',
        id: WEB,
        spki,
        notAfter,
        actor: OPERATOR,
        entryId: 'e',
      }),
    );
  };

  it('makes its authorities once and takes them up again, with the same bundle', async () => {
    const first = await open();
    const again = await open();
    assert.equal(bundlePin(again.bundle.value), bundlePin(first.bundle.value));
    assert.deepEqual(
      [again.bundle.value.sequenceNumber, again.bundle.value.jwtAuthorities.length],
      [1n, 1],
    );
    const [root] = first.bundle.value.x509Authorities;
    assert.equal(root?.certificate.notAfter.getTime(), clock.now().getTime() + YEAR_MS);
  });

  it('makes a new authority when the key of one is lost, and keeps the old in the bundle', async () => {
    const first = await open();
    const svid = await sign(first);
    for (const id of keys.keys()) if (id.startsWith('x509-')) keys.delete(id);
    const next = await open();
    const { x509Authorities, sequenceNumber, jwtAuthorities } = next.bundle.value;
    assert.deepEqual([x509Authorities.length, sequenceNumber, jwtAuthorities.length], [2, 2n, 1]);
    assert.notEqual(bundlePin(next.bundle.value), bundlePin(first.bundle.value));
    const now = clock.now();
    assert.equal(verifySvid(svid.chain, () => next.bundle.value, now).id.path, '/web');
    const renewed = await sign(next);
    assert.throws(() => verifySvid(renewed.chain, () => first.bundle.value, now));
  });

  it('has each SVID in the ledger and the audit log before it is given out, and none that rolled back', async () => {
    const authority = await open();
    issued.length = 0;
    const { serial, notAfter } = await sign(authority);
    const row = await store.get('select * from ledger');
    assert.deepEqual(
      [row?.serial, row?.kind, row?.spiffe_id, row?.entry_id, row?.not_after_ms],
      [serial, 'x509', WEB.toString(), 'e', notAfter.getTime()],
    );
    const spki = spkiOf(await generateKey('ec-p256'));
    const broken = store.transaction(async (tx) => {
      const request = { id: WEB, spki, notAfter: inSeconds(60), actor: OPERATOR };
      await authority.signX509(tx, { kind: 'x509', ...request });
      throw new Error('no');
    });
    await assert.rejects(broken);
    assert.equal((await store.all('select 1 from ledger')).length, 1);
    assert.deepEqual(issued, ['x509']);
  });

  it('signs nothing past the end of its authority, and nothing that has ended', async () => {
    const authority = await open();
    const { notAfter } = await sign(authority, inSeconds(2 * 365 * 24 * 3600));
    assert.equal(notAfter.getTime(), clock.now().getTime() + YEAR_MS);
    await assert.rejects(sign(authority, clock.now()), { code: 'FAILED_PRECONDITION' });
  });

  it('signs tokens with whole seconds that end no later than asked', async () => {
    const authority = await open();
    const jwt = await store.transaction((tx) =>
      authority.signJwt(tx, {
        ...{ id: WEB, audience: ['db'], actor: OPERATOR },
        notAfter: new Date(clock.now().getTime() + 1999),
      }),
    );
    const { value } = authority.bundle;
    const verified = verifyJwtSvid(jwt.token, 'db', () => value, clock.now());
    assert.deepEqual([verified.expiresAt, verified.id.path], [inSeconds(1), '/web']);
    const late = store.transaction((tx) =>
      authority.signJwt(tx, {
        ...{ id: WEB, audience: ['db'], actor: OPERATOR },
        notAfter: new Date(clock.now().getTime() + 999),
      }),
    );
    await assert.rejects(late, { code: 'FAILED_PRECONDITION' });
  });
});
