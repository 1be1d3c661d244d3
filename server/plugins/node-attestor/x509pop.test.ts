import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { makeBundle } from '../../../identity/bundle.ts';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { parseCertificate } from '../../../identity/x509/certificate.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import {
  type HandMade,
  handMadeCa,
  handMadeCertificate,
  newKey,
  type Parts,
  USAGE,
} from '../../../test/fixtures/hand-made-certificate.ts';
import { mutations } from '../../../test/fixtures/mutations.ts';
import { popNonce, popPayload, popResponse } from '../../../test/fixtures/node-prover.ts';
import { agentPathTemplate } from './agent-path.ts';
import { type SvidSource, X509POP_FIELDS, x509PopAttestor } from './x509pop.ts';

const TD = parseTrustDomain('example.org');
const HOUR_MS = 3_600_000;
const root = handMadeCa({ name: 'Nodes' });
const rsaKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const p384Key = () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
const sha1 = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex');
const node = (parts: Parts = {}) =>
  handMadeCertificate({ name: 'node-1', uris: [], issuer: root, ...parts });

interface World {
  readonly source?: SvidSource;
  readonly template?: string;
}

/** Attests with `evidence`; `answer` makes the response of the challenge. */
const attest = (
  evidence: Uint8Array,
  answer: (challenge: Uint8Array) => Uint8Array,
  { source, template = '/{{ .PluginName }}/{{ .Fingerprint }}' }: World = {},
) =>
  x509PopAttestor({
    trustDomain: TD,
    clock: systemClock,
    source: source ?? [parseCertificate(root.der)],
    agentPath: agentPathTemplate('t', template, { plugin: 'x509pop', fields: X509POP_FIELDS }),
  }).attest(evidence, {
    signal: new AbortController().signal,
    challenge: async (challenge) => answer(challenge),
  });
const by = (key: KeyObject) => (challenge: Uint8Array) => popResponse(key, popNonce(challenge));
const prove = ({ der, key }: HandMade, chain: readonly HandMade[] = [], world: World = {}) =>
  attest(popPayload(der, ...chain.map((one) => one.der)), by(key), world);
const denied = (reason: RegExp) => (error: Fault) => {
  assert.equal(error.code, 'ATTESTATION_DENIED');
  assert.match(String(error.cause), reason);
  return true;
};

describe('x509PopAttestor', () => {
  for (const [what, key] of [
    ['P-256', newKey()],
    ['P-384', p384Key()],
    ['RSA', rsaKey()],
  ] as const)
    it(`takes a node that has the ${what} key of its certificate, and names it after that`, async () => {
      const leaf = node({ key });
      const { agentId, canReattest } = await prove(leaf);
      assert.equal(String(agentId), `spiffe://example.org/spire/agent/x509pop/${sha1(leaf.der)}`);
      assert.equal(canReattest, true);
    });

  it('tells subject, serial number, authorities and names as selectors', async () => {
    const between = handMadeCa({ name: 'Between', issuer: root });
    const uris = [
      'x509pop://example.org/rack/7/b',
      'x509pop://other.org/rack/8',
      'x509pop://example.org/x',
    ];
    const leaf = node({ issuer: between, uris, serial: Buffer.from('0a0b', 'hex') });
    assert.deepEqual((await prove(leaf, [between])).selectors, [
      'subject:cn:node-1',
      `ca:fingerprint:${sha1(between.der)}`,
      `ca:fingerprint:${sha1(root.der)}`,
      'serialnumber:0a0b',
      'san:rack:7/b',
    ]);
  });

  it('names the agent by the template', async () => {
    const template = '/x509pop/{{ .Subject.CommonName }}/{{ .SerialNumberHex }}';
    const leaf = node({ serial: Buffer.from('0a0b', 'hex') });
    const { agentId } = await prove(leaf, [], { template });
    assert.equal(agentId.path, '/spire/agent/x509pop/node-1/0a0b');
    for (const name of ['', 'a/b', '..'])
      await assert.rejects(prove(node({ name }), [], { template }), { code: 'ATTESTATION_DENIED' });
  });

  it('takes up to four intermediates and no fifth', async () => {
    const chain: HandMade[] = [];
    for (let depth = 0; depth < 5; depth += 1)
      chain.unshift(handMadeCa({ name: `I${depth}`, issuer: chain[0] ?? root }));
    const [lowest, ...upper] = chain;
    assert.ok(lowest);
    await prove(node({ issuer: upper[0] ?? root }), upper);
    const deepest = node({ issuer: lowest });
    await assert.rejects(prove(deepest, chain), { code: 'INVALID_ARGUMENT' });
  });

  describe('refuses', () => {
    for (const [what, key] of [
      ['ECDSA', newKey],
      ['RSA', rsaKey],
    ] as const) {
      it(`another ${what} key`, async () => {
        await assert.rejects(
          attest(popPayload(node({ key: key() }).der), by(key())),
          denied(/by the key/),
        );
      });

      it(`a replayed ${what} response`, async () => {
        const leaf = node({ key: key() });
        let response: Uint8Array = Buffer.of();
        const keep = (challenge: Uint8Array) => {
          response = by(leaf.key)(challenge);
          return response;
        };
        await attest(popPayload(leaf.der), keep);
        await assert.rejects(
          attest(popPayload(leaf.der), () => response),
          denied(/by the key/),
        );
      });
    }

    it('a response of the other kind of key, and one without a nonce', async () => {
      const leaf = node();
      await assert.rejects(attest(popPayload(leaf.der), by(rsaKey())), denied(/nonce/));
      for (const text of ['{}', '{"ecdsa_signature":null}'])
        await assert.rejects(
          attest(popPayload(leaf.der), () => Buffer.from(text)),
          denied(/nonce/),
        );
    });

    it('a signature of zeros or of endless numbers', async () => {
      const nonce = Buffer.alloc(32).toString('base64');
      for (const number of [
        '',
        Buffer.alloc(32).toString('base64'),
        Buffer.alloc(1000, 1).toString('base64'),
      ]) {
        const response = JSON.stringify({ ecdsa_signature: { nonce, r: number, s: number } });
        await assert.rejects(
          attest(popPayload(node().der), () => Buffer.from(response)),
          denied(/no such number/),
        );
      }
    });

    const past = {
      notBefore: new Date(Date.now() - 2 * HOUR_MS),
      notAfter: new Date(Date.now() - HOUR_MS),
    };
    for (const [what, leaf, reason] of [
      ['an expired certificate', node(past), /expired/],
      [
        'one of an authority that is not configured',
        node({ issuer: handMadeCa({ name: 'Nodes' }) }),
        /no configured authority/,
      ],
      ['one that is not for signing', node({ keyUsage: USAGE.keyEncipherment }), /not for signing/],
      ['one that tells no uses', node({ keyUsage: null }), /not for signing/],
    ] as const)
      it(`${what}, before it is challenged`, async () => {
        const unasked = () => assert.fail('challenged');
        await assert.rejects(attest(popPayload(leaf.der), unasked), denied(reason));
      });

    it('keys that are no node keys', async () => {
      const ed25519 = generateKeyPairSync('ed25519').privateKey;
      await assert.rejects(prove(node({ key: ed25519 })), denied(/neither an RSA nor/));
      const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
      await assert.rejects(prove(node({ key: weak })), { code: 'INVALID_ARGUMENT' });
    });
  });

  describe('in mode spiffe', () => {
    const svid = (parts: Parts = {}) =>
      node({ uris: ['spiffe://example.org/spire-exchange/rack/n1'], ...parts });
    const template = '/{{ .PluginName }}/{{ .SVIDPathTrimmed }}';
    const revoked = new Set<string>();
    const source: SvidSource = {
      prefix: '/spire-exchange',
      bundle: () => makeBundle({ trustDomain: TD, x509: [root.der] }),
      isBarred: async ({ serial }) => revoked.has(serial),
    };
    const exchange = (leaf: HandMade) => prove(leaf, [], { source, template });

    it('takes an SVID below the prefix and names the agent by the rest of its path', async () => {
      const { agentId } = await exchange(svid());
      assert.equal(agentId.path, '/spire/agent/x509pop/rack/n1');
    });

    it('takes none that is revoked', async () => {
      const leaf = svid();
      revoked.add(parseCertificate(leaf.der).serial);
      await assert.rejects(exchange(leaf), denied(/revoked/));
    });

    for (const [what, leaf, reason] of [
      ['another path', svid({ uris: ['spiffe://example.org/spire-exchanged/n1'] }), /not below/],
      ['the prefix alone', svid({ uris: ['spiffe://example.org/spire-exchange'] }), /not below/],
      [
        'another trust domain',
        svid({ uris: ['spiffe://other.org/spire-exchange/n1'] }),
        /unknown trust domain/,
      ],
      [
        'two SPIFFE IDs',
        svid({ uris: ['spiffe://example.org/spire-exchange/n1', 'spiffe://example.org/b'] }),
        /exactly one URI/,
      ],
      ['no SPIFFE ID', svid({ uris: [] }), /exactly one URI/],
      ['an authority', svid({ ca: true, keyUsage: USAGE.digitalSignature }), /is a CA/],
    ] as const)
      it(`takes no certificate of ${what}`, async () => {
        await assert.rejects(exchange(leaf), denied(reason));
      });
  });

  it('answers every mangled payload and response with a refusal', async () => {
    const leaf = node();
    // What only says the same in other words, such as with a space in the JSON, may pass.
    const check = async (attested: ReturnType<typeof attest>, bad: Uint8Array) => {
      const outcome = await attested.catch((error: unknown) => error);
      const code = outcome instanceof Fault ? outcome.code : '';
      if (outcome instanceof Error)
        assert.match(code, /^(INVALID_ARGUMENT|ATTESTATION_DENIED)$/, `${outcome}: ${bad}`);
      else assert.match(JSON.stringify(outcome), new RegExp(sha1(leaf.der)));
    };
    const unharmed = by(leaf.key);
    const payload = popPayload(leaf.der);
    for (const bad of mutations(payload, 1500)) await check(attest(bad, unharmed), bad);
    for (let at = 0; at < 1500; at += 1) {
      let bad: Uint8Array = Buffer.of();
      const answer = (challenge: Uint8Array) => {
        [bad = bad] = mutations(unharmed(challenge), 1, at);
        return bad;
      };
      await check(attest(payload, answer), bad);
    }
  });
});
