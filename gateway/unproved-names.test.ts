import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { parseTrustDomain, SpiffeId } from '../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../identity/x509/ca.ts';
import { generateKey, spkiOf } from '../identity/x509/key.ts';
import { leafSigner } from '../identity/x509/leaf.ts';
import { type X509Svid, x509Svid } from '../identity/x509-svid.ts';
import { BackendSchema } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { createLogger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import { EMPTY_SNAPSHOT, type GatewaySnapshot } from './access/snapshot.ts';
import { unprovedNames, warnOfUnprovedNames } from './unproved-names.ts';

const DOMAIN = parseTrustDomain('example.org');

async function svidFor(...dnsNames: string[]): Promise<X509Svid> {
  const now = new Date();
  const notAfter = new Date(now.getTime() + 60_000);
  const key = await generateKey('ec-p256');
  const authority = await createSelfSignedCa({
    trustDomain: DOMAIN,
    keyType: 'ec-p256',
    notAfter,
    now,
  });
  const { der } = leafSigner(authority).sign({
    spki: spkiOf(key),
    uri: SpiffeId.fromSegments(DOMAIN, 'writ', 'gateway', 'g'),
    dnsNames,
    notAfter,
    now,
  });
  return x509Svid([der], key);
}

function knowing(...serverNames: string[]): GatewaySnapshot {
  const value = { serverNames };
  const shop = create(BackendSchema, { name: 'shop', type: { case: 'postgres', value } });
  const web = create(BackendSchema, { name: 'web', type: { case: 'ssh', value: {} } });
  return { ...EMPTY_SNAPSHOT, backends: new Map([shop, web].map((one) => [one.name, one])) };
}

describe('unprovedNames', () => {
  it('tells which server names the certificate does not carry', async () => {
    const svid = await svidFor('localhost', 'shop.db.internal', '*.eu.internal');
    const names = ['shop.db.internal', 'shop.eu.internal', 'a.shop.eu.internal', 'db.internal'];
    assert.deepEqual(
      unprovedNames(knowing(...names), svid).map(({ serverName }) => serverName),
      ['a.shop.eu.internal', 'db.internal'],
    );
    assert.deepEqual(unprovedNames(knowing(), svid), []);
  });
});

describe('warnOfUnprovedNames', () => {
  it('tells of each name once, when its backend becomes known', async () => {
    const logged: string[] = [];
    const log = createLogger(
      { process: 'gateway', level: 'warn' },
      { write: (line: string) => logged.push(line) },
    );
    const snapshot = new Watched(EMPTY_SNAPSHOT);
    const warning = warnOfUnprovedNames({
      snapshot,
      svid: new Watched(await svidFor('shop.db.internal')),
      log,
    });
    for (const names of [['shop.db.internal'], ['a.internal'], ['a.internal', 'b.internal']]) {
      snapshot.set(knowing(...names));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await warning[Symbol.asyncDispose]();
    assert.deepEqual(
      logged.map((line) => JSON.parse(line)).map((line) => [line.backend, line.server_name]),
      [
        ['shop', 'a.internal'],
        ['shop', 'b.internal'],
      ],
    );
  });
});
