/**
 * The only holder of the keys that sign SVIDs: what it signs is in the ledger and the audit log before
 * it is given out.
 */
import type { KeyObject } from 'node:crypto';
import type { Bundle } from '../../identity/bundle.ts';
import { LONGEST_TOKEN } from '../../identity/compact-jws.ts';
import { type JwtSigner, jwtSigner } from '../../identity/jwt-svid.ts';
import { lintJwtSvid } from '../../identity/jwt-svid-lint.ts';
import type { Signer } from '../../identity/signer.ts';
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { subordinateCa } from '../../identity/x509/ca.ts';
import { type Certificate, parseCertificate } from '../../identity/x509/certificate.ts';
import { type LeafSigner, remoteLeafSigner, type SignedLeaf } from '../../identity/x509/leaf.ts';
import { LeafLint } from '../../identity/x509/leaf-lint.ts';
import { lintCa } from '../../identity/x509/lint.ts';
import type { SubjectName } from '../../identity/x509/subject-name.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { Actor } from '../access/actor.ts';
import { randomId } from '../access/random-id.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import type { AddedAuthorities, Authorities } from './authorities.ts';
import type { AuthorityRow, AuthorityState } from './authority-rows.ts';
import { activeOf, type SigningAuthority } from './authority-state.ts';
import { type Issued, type IssuedKind, type Ledger, recordIssued } from './ledger.ts';
import type { JwtKey } from './trusted-steps.ts';

export interface AuthorityOptions extends Ledger {
  readonly authorities: Authorities;
  readonly clock: Clock;
  /** The `iss` claim of tokens; none unless told. */
  readonly jwtIssuer?: string | undefined;
}

/** For whom something is signed, and on what ground. */
interface Ground {
  readonly id: SpiffeId;
  readonly notAfter: Date;
  readonly actor: Actor;
  readonly entryId?: string;
  readonly agentId?: string;
  /** What else the event tells. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface X509Request extends Ground {
  readonly kind: Extract<IssuedKind, 'x509' | 'agent' | 'server'>;
  /** DER, checked. */
  readonly spki: Uint8Array;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  /** In the place of C=US, O=SPIRE. */
  readonly subject?: SubjectName | undefined;
}

export interface SignedX509 {
  /** DER, leaf first, without the root. */
  readonly chain: readonly Uint8Array[];
  readonly serial: string;
  readonly notAfter: Date;
}

/** Leaves of one transaction. */
export interface X509Batch {
  /** Not to be given out before `record` is committed. @throws Fault as `signX509` */
  sign(request: X509Request): Promise<SignedX509>;
  record(tx: Transaction): Promise<void>;
}

export interface JwtRequest extends Ground {
  readonly audience: readonly string[];
}

export interface SignedJwt {
  readonly token: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
}

/** What a server below this one asks for. */
export interface DownstreamCaRequest extends Ground {
  /** DER, checked. */
  readonly spki: Uint8Array;
}

export interface SignedDownstreamCa extends SignedX509 {
  /** DER: all that verifies SVIDs of the trust domain. */
  readonly roots: readonly Uint8Array[];
}

/** An X.509 authority of ours that has its key, and so can sign its CRL. */
export interface CaSigner {
  readonly id: string;
  /** DER. */
  readonly certificate: Uint8Array;
  readonly signer: Signer;
  readonly state: AuthorityState;
}

interface LeafAuthority {
  readonly row: AuthorityRow;
  readonly certificate: Certificate;
  readonly signer: Signer;
  readonly leaf: LeafSigner<SignedLeaf | Promise<SignedLeaf>>;
  readonly lint: LeafLint;
}

interface TokenAuthority {
  readonly row: AuthorityRow;
  readonly publicKey: KeyObject;
  readonly sign: JwtSigner;
}

export class Authority {
  readonly #options: AuthorityOptions;
  readonly #bundle: BundleOfState;
  #x509: LeafAuthority | undefined;
  #jwt: TokenAuthority | undefined;

  constructor(options: AuthorityOptions) {
    this.#options = options;
    this.#bundle = new BundleOfState(options.authorities);
  }

  /** The trust domain's own bundle. */
  get bundle(): WatchedSource<Bundle> {
    return this.#bundle;
  }

  /** The X.509 authorities whose keys are here, the active one first. */
  caSigners(): CaSigner[] {
    const { authorities } = this.#options.authorities.state.value;
    return authorities.flatMap(({ row: { id, kind, state, certificate }, signer }) =>
      kind !== 'x509' || certificate === undefined || signer === undefined
        ? []
        : [{ id, state, certificate, signer }],
    );
  }

  /**
   * Signs a leaf, with its row in the ledger and its event in this transaction: it may be given out
   * once that is committed.
   * @throws Fault FAILED_PRECONDITION if it would have ended already, INVALID_ARGUMENT for its names
   */
  async signX509(tx: Transaction, request: X509Request): Promise<SignedX509> {
    const { signed, issued } = await this.#signLeaf(request);
    await recordIssued(tx, this.#options, [issued]);
    return signed;
  }

  /** Signs many leaves, as `signX509` does one, whose rows and events `record` writes in one go. */
  x509Batch(): X509Batch {
    const batch: Issued[] = [];
    return {
      sign: async (request) => {
        const { signed, issued } = await this.#signLeaf(request);
        batch.push(issued);
        return signed;
      },
      record: (tx) => recordIssued(tx, this.#options, batch),
    };
  }

  async #signLeaf(request: X509Request): Promise<{ signed: SignedX509; issued: Issued }> {
    const { kind, spki, id, dnsNames = [], ipAddresses = [] } = request;
    const { row, leaf, lint } = this.#leafAuthority();
    const now = this.#options.clock.now();
    const notAfterAtMost = earlier(request.notAfter, row.notAfter);
    const signing = leaf.sign({
      spki,
      uri: id,
      dnsNames,
      ipAddresses,
      subject: request.subject,
      notAfter: notAfterAtMost,
      now,
    });
    const signed = signing instanceof Promise ? await signing : signing;
    const wanted = { spki, id, dnsNames, ipAddresses, notAfter: notAfterAtMost, now };
    lint.check(signed.der, wanted);
    const { serial, notAfter } = signed;
    return {
      signed: { chain: [signed.der, ...chainOf(row)], serial, notAfter },
      issued: issuedOn(request, row, { kind, serial, notAfter, issuedAt: now }),
    };
  }

  /**
   * As `signX509`, for a token. Its `jti` is its serial in the ledger.
   * @throws Fault FAILED_PRECONDITION if it would have ended already, INVALID_ARGUMENT for its audience
   */
  async signJwt(tx: Transaction, request: JwtRequest): Promise<SignedJwt> {
    const { row, publicKey, sign } = this.#jwtAuthority();
    const now = this.#options.clock.now();
    const issuedAt = wholeSeconds(now);
    const expiresAt = wholeSeconds(earlier(request.notAfter, row.notAfter));
    if (expiresAt <= now)
      throw new Fault('FAILED_PRECONDITION', 'the token would have ended already');
    const serial = randomId('j_');
    const wanted = {
      id: request.id,
      audience: [...request.audience],
      issuedAt,
      expiresAt,
      keyId: row.id,
      jti: serial,
      issuer: this.#options.jwtIssuer,
    };
    const signing = sign(wanted);
    const token = typeof signing === 'string' ? signing : await signing;
    if (token.length > LONGEST_TOKEN)
      throw new Fault('INVALID_ARGUMENT', 'the token would be longer than 16 KiB');
    lintJwtSvid(token, { ...wanted, publicKey, now });
    const issued = { kind: 'jwt', serial, notAfter: expiresAt, issuedAt: now } as const;
    await recordIssued(tx, this.#options, [issuedOn(request, row, issued)]);
    return { token, issuedAt, expiresAt };
  }

  /**
   * Signs the X.509 authority of a server below this one; as `signX509` otherwise.
   * @throws Fault FAILED_PRECONDITION if it would have ended already
   */
  async signDownstreamCa(
    tx: Transaction,
    request: DownstreamCaRequest,
  ): Promise<SignedDownstreamCa> {
    const { row, certificate: issuer, signer } = this.#leafAuthority();
    const { trustDomain, x509Authorities } = this.bundle.value;
    const now = this.#options.clock.now();
    const end = earlier(request.notAfter, row.notAfter);
    const unit = `DOWNSTREAM-${randomId('').slice(0, 16)}`;
    const { certificate } = await subordinateCa(
      { trustDomain, now, notAfter: end, unit },
      request.spki,
      { certificate: issuer.raw, signer },
    );
    lintCa(certificate, { issuer, spki: request.spki, trustDomain, notAfter: end, now });
    const { serial, notAfter } = parseCertificate(certificate);
    const told = { ...request, attributes: { ...request.attributes, use: 'downstream_ca' } };
    const issued = { kind: 'x509', serial, notAfter, issuedAt: now } as const;
    await recordIssued(tx, this.#options, [issuedOn(told, row, issued)]);
    return {
      ...{ serial, notAfter, chain: [certificate, ...chainOf(row)] },
      roots: x509Authorities.map(({ der }) => der),
    };
  }

  /**
   * Puts the JWT key of a server below this one into the bundle.
   * @throws Fault INVALID_ARGUMENT
   */
  publishJwtKey(tx: Transaction, key: JwtKey, actor: Actor): Promise<Bundle> {
    return this.#options.authorities.publish(tx, key, actor);
  }

  /**
   * Puts authorities that are not ours into the bundle.
   * @param added X.509 as DER, untrusted, or what `x509Authority` made
   * @returns the bundle as it is once the transaction is committed
   * @throws Fault INVALID_ARGUMENT
   */
  appendAuthorities(tx: Transaction, added: AddedAuthorities, actor: Actor): Promise<Bundle> {
    return this.#options.authorities.append(tx, added, actor);
  }

  #leafAuthority(): LeafAuthority {
    const active = this.#active('x509');
    if (this.#x509 === undefined || this.#x509.signer !== active.signer) {
      const { certificate } = active.row;
      if (certificate === undefined) throw new Error('an X.509 authority without certificate');
      const leaf = remoteLeafSigner({ certificate, signer: active.signer });
      const parsed = parseCertificate(certificate);
      this.#x509 = { ...active, certificate: parsed, leaf, lint: new LeafLint(parsed) };
    }
    return this.#x509;
  }

  #jwtAuthority(): TokenAuthority {
    const { row, signer } = this.#active('jwt');
    if (this.#jwt?.row.id !== row.id)
      this.#jwt = { row, publicKey: signer.publicKey, sign: jwtSigner(signer) };
    return this.#jwt;
  }

  #active(kind: 'x509' | 'jwt'): SigningAuthority {
    const active = activeOf(this.#options.authorities.state.value, kind);
    if (active === undefined) throw new Fault('UNAVAILABLE', 'there is no authority that can sign');
    return active;
  }
}

function issuedOn(
  { id, actor, entryId, agentId, attributes = {} }: Ground,
  { id: authorityId }: AuthorityRow,
  { kind, serial, notAfter, issuedAt }: Pick<Issued, 'kind' | 'serial' | 'notAfter' | 'issuedAt'>,
): Issued {
  const event = { type: 'identity.svid.issued', actor, attributes };
  const spiffeId = id.toString();
  return { kind, serial, notAfter, issuedAt, authorityId, spiffeId, entryId, agentId, event };
}

/** The bundle of a state, told only when it is another. */
class BundleOfState implements WatchedSource<Bundle> {
  readonly #authorities: Authorities;

  constructor(authorities: Authorities) {
    this.#authorities = authorities;
  }

  get value(): Bundle {
    return this.#authorities.state.value.bundle;
  }

  async *values(signal: AbortSignal): AsyncIterable<Bundle> {
    let told: Bundle | undefined;
    for await (const { bundle } of this.#authorities.state.values(signal)) {
      if (told?.sequenceNumber === bundle.sequenceNumber) continue;
      told = bundle;
      yield bundle;
    }
  }
}

/** What stands between a leaf and the root, which is the authority itself unless it has an upstream. */
function chainOf({ certificate, chain, upstreamId }: AuthorityRow): readonly Uint8Array[] {
  return certificate === undefined || upstreamId === '' ? [] : [certificate, ...chain];
}

function earlier(one: Date, other: Date): Date {
  return one < other ? one : other;
}

function wholeSeconds(at: Date): Date {
  return new Date(Math.floor(at.getTime() / 1000) * 1000);
}
