/**
 * Node attestor `x509pop`: the node shows a certificate of a configured authority and proves that it has
 * the key. On the wire as SPIRE's: JSON, bytes in base64.
 */
import { constants, createHash, randomBytes, verify } from 'node:crypto';
import * as v from 'valibot';
import type { Bundle } from '../../../identity/bundle.ts';
import type { TrustDomain } from '../../../identity/spiffe-id.ts';
import { svidRefusal, type VerifiedSvid, verifySvid } from '../../../identity/verify.ts';
import {
  type Certificate,
  parseCertificate,
  publicKeyOf,
} from '../../../identity/x509/certificate.ts';
import { der, TAG } from '../../../identity/x509/der.ts';
import { commonNameOf } from '../../../identity/x509/name.ts';
import { findPath } from '../../../identity/x509/path.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { AgentPathTemplate } from './agent-path.ts';
import type { AttestExchange, AttestedNode, NodeAttestor } from './node-attestor.ts';

const MOST_INTERMEDIATES = 4;
const NONCE_BYTES = 32;
const SAN_PREFIX = 'x509pop:';

/** Fields that `agent_path_template` may use. */
export const X509POP_FIELDS = [
  ...['PluginName', 'TrustDomain', 'Fingerprint', 'SerialNumberHex', 'Subject.CommonName'],
  'SVIDPathTrimmed',
];

export interface X509PopOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly agentPath: AgentPathTemplate;
  /** The authorities that nodes' certificates come from. */
  readonly source: readonly Certificate[] | SvidSource;
}

/** Mode `spiffe`: nodes show an X509-SVID of the trust domain. */
export interface SvidSource {
  /** Its path is below this one, e.g. `/spire-exchange`. */
  readonly prefix: string;
  /** The trust domain's, as it is now. */
  bundle(): Bundle;
  /** Whether an SVID that verifies was revoked or is locked. */
  isBarred(svid: VerifiedSvid): Promise<boolean>;
}

const base64 = v.pipe(v.string(), v.base64(), v.maxLength(64 * 1024));
const payloadSchema = v.object({
  certificates: v.pipe(v.array(base64), v.minLength(1), v.maxLength(MOST_INTERMEDIATES + 1)),
});
const nonceAnd = <T extends v.ObjectEntries>(entries: T) =>
  v.nullish(v.object({ nonce: base64, ...entries }));
const responseSchema = v.object({
  rsa_signature: nonceAnd({ signature: base64 }),
  ecdsa_signature: nonceAnd({ r: base64, s: base64 }),
});
type Response = v.InferOutput<typeof responseSchema>;

export function x509PopAttestor(options: X509PopOptions): NodeAttestor {
  const { trustDomain, clock, agentPath, source } = options;

  async function attest(evidence: Uint8Array, exchange: AttestExchange): Promise<AttestedNode> {
    const { certificates } = parseJson(payloadSchema, evidence, 'attestation payload');
    const [leaf, ...intermediates] = certificates.map((text) => parse(text));
    if (leaf === undefined) throw new Error('a list that is not empty is');
    // As SPIRE: a certificate that says nothing of its uses is refused too.
    if (leaf.keyUsage?.has('digitalSignature') !== true)
      throw denied('the certificate is not for signing');
    const now = clock.now();
    const roots = 'prefix' in source ? rootsOf(source.bundle()) : source;
    const path = findPath(leaf, { intermediates, roots, now });
    const trimmed =
      'prefix' in source ? await exchangedPath([leaf, ...intermediates], source, now) : '';
    await provePossession(leaf, exchange);

    const facts = {
      PluginName: 'x509pop',
      TrustDomain: trustDomain,
      Fingerprint: sha1(leaf.raw),
      SerialNumberHex: leaf.serial,
      'Subject.CommonName': oneSegment(commonNameOf(leaf.subject)),
      SVIDPathTrimmed: trimmed,
    };
    return {
      agentId: agentPath.agentId(trustDomain, facts),
      selectors: selectorsOf(leaf, path, trustDomain),
      canReattest: true,
    };
  }

  return { type: 'x509pop', attest };
}

async function provePossession(leaf: Certificate, exchange: AttestExchange): Promise<void> {
  const key = publicKeyOf(leaf);
  const isRsa = key.asymmetricKeyType === 'rsa';
  if (!isRsa && key.asymmetricKeyType !== 'ec')
    throw denied('the certificate has neither an RSA nor an ECDSA key');
  const nonce = randomBytes(NONCE_BYTES);
  const asked = { nonce: nonce.toString('base64') };
  const challenge = { rsa_signature: isRsa ? asked : null, ecdsa_signature: isRsa ? null : asked };
  const answer = await exchange.challenge(Buffer.from(JSON.stringify(challenge)));
  const response = parseJson(responseSchema, answer, 'challenge response');
  const { rsa_signature: rsa, ecdsa_signature: ecdsa } = response;
  const theirs = Buffer.from((isRsa ? rsa : ecdsa)?.nonce ?? '', 'base64');
  if (theirs.length !== NONCE_BYTES) throw denied('the response has no nonce of 32 bytes');
  const signed = Buffer.concat([nonce, theirs]);
  const isProved = isRsa
    ? verify(
        'sha256',
        signed,
        {
          ...{ key, padding: constants.RSA_PKCS1_PSS_PADDING },
          saltLength: constants.RSA_PSS_SALTLEN_AUTO,
        },
        Buffer.from(rsa?.signature ?? '', 'base64'),
      )
    : verify('sha256', signed, key, ecdsaSignature(response));
  if (!isProved) throw denied('the challenge was not answered by the key of the certificate');
}

/** Source: RFC 3279 2.2.3. */
function ecdsaSignature({ ecdsa_signature: answer }: Response): Buffer {
  return der(TAG.sequence, unsigned(answer?.r ?? ''), unsigned(answer?.s ?? ''));
}

function unsigned(base64Text: string): Buffer {
  const bytes = Buffer.from(base64Text, 'base64');
  const first = bytes.findIndex((byte) => byte !== 0);
  if (first < 0 || bytes.length - first > 66) throw denied('the signature has no such number');
  const digits = bytes.subarray(first);
  const sign = (digits[0] ?? 0) >= 0x80 ? Buffer.of(0) : Buffer.alloc(0);
  return der(TAG.integer, sign, digits);
}

/** The SVID's path below the prefix, without a leading slash. */
async function exchangedPath(
  chain: readonly Certificate[],
  { prefix, bundle, isBarred }: SvidSource,
  now: Date,
): Promise<string> {
  const own = bundle();
  const svid = verified(chain, own, now);
  const { id } = svid;
  if (!id.path.startsWith(`${prefix}/`))
    throw denied(`the SVID is not below spiffe://${own.trustDomain}${prefix}`);
  if (await isBarred(svid)) throw denied('the SVID is revoked or locked');
  return id.path.slice(prefix.length + 1);
}

function verified(chain: readonly Certificate[], own: Bundle, now: Date) {
  try {
    const bundles = (name: TrustDomain) => (name === own.trustDomain ? own : undefined);
    return verifySvid(
      chain.map(({ raw }) => raw),
      bundles,
      now,
    );
  } catch (error) {
    throw denied(svidRefusal(error) ?? 'the certificate is no X509-SVID');
  }
}

/** A name with a slash would reach into the paths of other nodes; without a name there is no path. */
function oneSegment(name = ''): string {
  return name.includes('/') ? '' : name;
}

function rootsOf({ x509Authorities }: Bundle): Certificate[] {
  return x509Authorities.map(({ certificate }) => certificate);
}

function selectorsOf(
  leaf: Certificate,
  path: readonly Certificate[],
  trustDomain: TrustDomain,
): string[] {
  const name = commonNameOf(leaf.subject);
  const sanStart = `${SAN_PREFIX}//${trustDomain}/`;
  const sans = leaf.uriSans.filter((uri) => uri.startsWith(sanStart));
  const pairs = sans.map((uri) => uri.slice(sanStart.length).split('/'));
  return [
    ...(name === undefined || name === '' ? [] : [`subject:cn:${name}`]),
    ...new Set(path.slice(1).map(({ raw }) => `ca:fingerprint:${sha1(raw)}`)),
    `serialnumber:${leaf.serial}`,
    ...pairs.flatMap(([key, ...value]) =>
      key !== undefined && value.length > 0 ? [`san:${key}:${value.join('/')}`] : [],
    ),
  ];
}

function parse(base64Text: string): Certificate {
  return parseCertificate(Buffer.from(base64Text, 'base64'));
}

function parseJson<S extends v.GenericSchema>(
  schema: S,
  bytes: Uint8Array,
  what: string,
): v.InferOutput<S> {
  try {
    return v.parse(schema, JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    const message = `failed to unmarshal ${what}`;
    throw new Fault('INVALID_ARGUMENT', message, { cause: error });
  }
}

function sha1(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex');
}

function denied(cause: string): Fault {
  return new Fault('ATTESTATION_DENIED', `the node is not proved: ${cause}`, { cause });
}
