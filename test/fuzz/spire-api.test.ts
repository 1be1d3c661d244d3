import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { create, type DescMethod, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import { type Client, RpcError } from '../../runtime/grpc-client.ts';
import { RunningServer } from '../fixtures/running-server.ts';

const MESSAGES = 100_000;
const AT_ONCE = 32;
const BATCH = 1000;
const signal = new AbortController().signal;
const SERVICES = [Agent, Bundle, Entry, SVID, TrustDomain] as const;

const id = { trustDomain: 'example.org', path: '/a/b' };
const selector = { type: 'unix', value: 'uid:1' };
const bundle = {
  trustDomain: 'other.org',
  x509Authorities: [{ asn1: randomBytes(40) }],
  jwtAuthorities: [{ publicKey: randomBytes(91), keyId: 'k', expiresAt: 1n }],
  refreshHint: 60n,
};
const entry = {
  ...{ id: 'e', spiffeId: id, parentId: { ...id, path: '/p' }, selectors: [selector] },
  ...{ x509SvidTtl: 60, dnsNames: ['a.example.org'], hint: 'h', federatesWith: ['other.org'] },
};
const relationship = {
  trustDomain: 'other.org',
  bundleEndpointUrl: 'https://127.0.0.1:1/',
  bundleEndpointProfile: { case: 'httpsWeb', value: {} },
  trustDomainBundle: bundle,
};
/** Of each name that a request may have, so that mutations reach below the first field. */
const FIELDS: Readonly<Record<string, unknown>> = {
  ...{ id, csr: randomBytes(200), audience: ['a'], ttl: 60, token: 'abcdefghijklmnop1234' },
  ...{ pageSize: 2, pageToken: 'YQ', trustDomain: 'other.org', trustDomains: ['other.org'] },
  ...{ bundle: [bundle], x509Authorities: bundle.x509Authorities, mode: 1, ids: ['e'] },
  ...{ jwtAuthorities: bundle.jwtAuthorities, federationRelationships: [relationship] },
  entries: [entry, entry],
  filter: { byHint: 'h' },
};
const STRANGE = [
  '',
  '\u0000',
  '..',
  '/',
  'a'.repeat(5000),
  '%2e',
  '\u{1f600}',
  "'; drop table x;--",
];

/** What is a caller's mistake, a limit, or not offered; all else is a crash of ours. */
const EXPECTED: ReadonlySet<string> = new Set([
  ...['ALREADY_EXISTS', 'FAILED_PRECONDITION', 'INVALID_ARGUMENT', 'NOT_FOUND', 'OK'],
  ...['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'UNIMPLEMENTED'],
]);

describe("SPIRE's API under mutated messages", () => {
  it(`answers ${MESSAGES} of them as a caller's mistake, and serves on`, async () => {
    await using server = await RunningServer.start();
    const methods = SERVICES.flatMap((service) => {
      const client = server.admin(service) as unknown as Record<string, Call>;
      return service.methods
        .filter(({ methodKind, name }) => methodKind === 'unary' && name !== 'RefreshBundle')
        .map((method) => ({ method, call: client[method.localName] as Call }));
    });
    const entries = server.admin(Entry);
    const seen = new Map<string, number>();
    let sent = 0;
    const worker = async () => {
      while (sent < MESSAGES) {
        const chosen = methods[sent % methods.length];
        sent += 1;
        if (chosen === undefined) continue;
        const { method, call } = chosen;
        const request = mutated(method);
        const status = await call(request, { signal }).then(
          () => 'OK',
          (error: unknown) => (error instanceof RpcError ? error.status : String(error)),
        );
        seen.set(status, (seen.get(status) ?? 0) + 1);
        assert.ok(
          EXPECTED.has(status),
          `${method.name}: ${status} for ${Buffer.from(toBinary(method.input, request)).toString('hex').slice(0, 2000)}`,
        );
        // What was made is not to slow down what comes.
        if (sent % BATCH === 0) await deleteAll(entries);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    assert.ok((seen.get('INVALID_ARGUMENT') ?? 0) > 1000, JSON.stringify([...seen]));
    assert.ok((seen.get('OK') ?? 0) > 1000, JSON.stringify([...seen]));
    await entries.countEntries({}, { signal });
  }).timeout(600_000);
});

type Call = (request: unknown, options: { signal: AbortSignal }) => Promise<unknown>;

function mutated(method: DescMethod) {
  for (;;) {
    const bytes = Buffer.from(toBinary(method.input, seed(method)));
    try {
      return fromBinary(method.input, broken(bytes));
    } catch {
      // No message any more: the decoder has refused it, as it does on the wire.
    }
  }
}

function seed({ input }: DescMethod) {
  const fields = input.fields.filter(({ localName }) => localName in FIELDS && chance(0.8));
  const init = Object.fromEntries(fields.map(({ localName }) => [localName, FIELDS[localName]]));
  try {
    const message = create(input, init);
    toBinary(input, message);
    return message;
  } catch {
    return create(input);
  }
}

function broken(bytes: Buffer): Buffer {
  let out = bytes;
  for (let left = 1 + random(4); left > 0 && out.length > 0; left -= 1) {
    const at = random(out.length);
    const kind = random(5);
    if (kind === 0) out[at] = random(256);
    else if (kind === 1) out = Buffer.concat([out.subarray(0, at), out.subarray(at + 1)]);
    else if (kind === 2) out = out.subarray(0, at);
    else if (kind === 3) out = Buffer.concat([out, out.subarray(at)]);
    else out = withStrangeText(out, at);
  }
  return out;
}

/** A text field with an odd text of a right length, at the end: the last one counts. */
function withStrangeText(bytes: Buffer, at: number): Buffer {
  const text = Buffer.from(STRANGE[at % STRANGE.length] ?? '');
  const field = 1 + random(12);
  const length = text.length < 128 ? [text.length] : [(text.length & 127) | 128, text.length >> 7];
  return Buffer.concat([bytes, Buffer.from([(field << 3) | 2, ...length]), text]);
}

async function deleteAll(client: Client<typeof Entry>): Promise<void> {
  const { entries } = await client.listEntries({}, { signal });
  const ids = entries.map((one) => one.id);
  if (ids.length > 0) await client.batchDeleteEntry({ ids }, { signal });
}

function random(below: number): number {
  return Math.floor(Math.random() * below);
}

function chance(probability: number): boolean {
  return Math.random() < probability;
}
