import assert from 'node:assert/strict';
import { fromBinary } from '@bufbuild/protobuf';
import { makeBundle } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { X509SVIDResponseSchema } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import type { CacheState, Identity } from '../svid/cache.ts';
import { type Composed, StateMessages, type Told } from './state-messages.ts';

const td = parseTrustDomain('example.org');
const now = new Date('2026-01-01T00:00:00Z');
const later = new Date('2026-01-01T01:00:00Z');

function identity(id: string): Identity {
  const entry = {
    ...{ id, spiffeId: SpiffeId.fromSegments(td, 'w'), selectors: ['unix:uid:0'], hint: '' },
    ...{ federatesWith: [], revision: 0n, createdAt: 0n, onDemand: false, freshJwt: false },
  };
  return { entry, svid: undefined, lack: 'pending' };
}

const [a, b] = [identity('a'), identity('b')];

function newState(): CacheState {
  const bundle = makeBundle({ trustDomain: td, x509: [] });
  const empty = { federated: new Map(), crls: [], selectorKinds: new Set<string>() };
  return { bundle, ...empty, identities: [a, b], synced: true };
}

type Response = Composed<typeof X509SVIDResponseSchema>;

/** Composes the names of the identities, and counts how often it does. */
function counted(until?: Date, answer?: () => Response | undefined) {
  let count = 0;
  const messages = new StateMessages(X509SVIDResponseSchema, ({ identities, isFirst }: Told) => {
    count += 1;
    if (answer !== undefined) return answer();
    const svids = identities.map(({ entry }) => ({ spiffeId: `${entry.id} ${isFirst}` }));
    return { message: { svids }, ...(until !== undefined && { until }) };
  });
  const told = (state: CacheState, identities: readonly Identity[], isFirst = false, at = now) => {
    const encoded = messages.of({ state, identities, isFirst }, at);
    if (encoded === undefined) return undefined;
    const { svids } = fromBinary(X509SVIDResponseSchema, encoded.bytes);
    return svids.map(({ spiffeId }) => spiffeId);
  };
  return { told, composed: () => count };
}

describe('StateMessages', () => {
  it('composes one message for all that have the same identities of one state', () => {
    const { told, composed } = counted();
    const state = newState();
    for (let n = 0; n < 3; n += 1) assert.deepEqual(told(state, [a, b]), ['a false', 'b false']);
    assert.equal(composed(), 1);
    assert.deepEqual(told(newState(), [a, b]), ['a false', 'b false']);
    assert.equal(composed(), 2);
  });

  it('never gives to some what is of others', () => {
    const { told } = counted();
    const state = newState();
    assert.deepEqual(told(state, [a, b]), ['a false', 'b false']);
    assert.deepEqual(told(state, [a]), ['a false']);
    assert.deepEqual(told(state, [b]), ['b false']);
    assert.deepEqual(told(state, [b], true), ['b true']);
    const [quoted, comma] = [identity('a","b'), identity('a,b')];
    assert.deepEqual(told(state, [quoted]), ['a","b false']);
    assert.deepEqual(told(state, [comma]), ['a,b false']);
  });

  it('composes anew once a message has ended', () => {
    const { told, composed } = counted(later);
    const state = newState();
    told(state, [a]);
    told(state, [a], false, new Date(later.getTime() - 1));
    assert.equal(composed(), 1);
    told(state, [a], false, later);
    assert.equal(composed(), 2);
  });

  it('holds neither that there is nothing yet nor a failure', () => {
    const state = newState();
    const waiting = counted(undefined, () => undefined);
    for (let n = 0; n < 2; n += 1) assert.equal(waiting.told(state, [a]), undefined);
    assert.equal(waiting.composed(), 2);
    const failing = counted(undefined, () => {
      throw new Error('none');
    });
    for (let n = 0; n < 2; n += 1) assert.throws(() => failing.told(state, [a]), /none/);
    assert.equal(failing.composed(), 2);
  });

  it('holds no more of one state than 256', () => {
    const { told, composed } = counted();
    const state = newState();
    const many = Array.from({ length: 257 }, (_, at) => [identity(String(at))]);
    for (const identities of many) told(state, identities);
    assert.equal(composed(), 257);
    for (const identities of many) told(state, identities);
    assert.equal(composed(), 258);
  });
});
