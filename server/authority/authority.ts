/**
 * The only holder of the keys that sign SVIDs: what it signs is in the ledger and the audit log before
 * it is given out.
 */
import { type Bundle, makeBundle, x509Authority } from '../../identity/bundle.ts';
import { signJwtSvid } from '../../identity/jwt-svid.ts';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { type LeafSigner, leafSigner } from '../../identity/x509/leaf.ts';
import { Fault } from '../../runtime/fault.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import type { Actor } from '../access/actor.ts';
import { randomId } from '../access/random-id.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import {
  type ActiveAuthority,
  type ActiveAuthorityOptions,
  ensureActive,
  findActive,
} from './active-authority.ts';
import { type AuthorityRow, listAuthorities } from './authority-rows.ts';
import { type Issued, type IssuedKind, type Ledger, recordIssued } from './ledger.ts';

const LIFETIME_MS = 365 * 24 * 60 * 60 * 1000;
/** What an ended authority stays in the bundle for: verifiers' clocks differ. */
const GRACE_MS = 24 * 60 * 60 * 1000;
const REFRESH_HINT_SECONDS = 300;

export interface AuthorityOptions extends ActiveAuthorityOptions, Ledger {
  readonly store: Datastore;
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
}

export interface SignedX509 {
  /** DER, leaf first, without the root. */
  readonly chain: readonly Uint8Array[];
  readonly serial: string;
  readonly notAfter: Date;
}

export interface JwtRequest extends Ground {
  readonly audience: readonly string[];
}

export interface SignedJwt {
  readonly token: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
}

interface Signers {
  readonly leaf: LeafSigner;
  readonly jwt: ActiveAuthority;
}

export class Authority {
  readonly #options: AuthorityOptions;
  readonly #signers: Signers;
  readonly #bundle: Watched<Bundle>;

  private constructor(options: AuthorityOptions, signers: Signers, bundle: Bundle) {
    this.#options = options;
    this.#signers = signers;
    this.#bundle = new Watched(bundle);
  }

  /** Takes up the authorities of the store, and makes those that are missing. */
  static async open(options: AuthorityOptions): Promise<Authority> {
    const { x509, jwt, rows, sequence } = await options.store.transaction((tx) =>
      takeUp(tx, options),
    );
    const certificate = x509.row.certificate;
    if (certificate === undefined) throw new Error('an X.509 authority without certificate');
    const signers = { leaf: leafSigner({ certificate, privateKey: x509.privateKey }), jwt };
    return new Authority(options, signers, bundleOf(options.trustDomain, rows, sequence));
  }

  /** The trust domain's own bundle. */
  get bundle(): WatchedSource<Bundle> {
    return this.#bundle;
  }

  /**
   * Signs a leaf, with its row in the ledger and its event in this transaction: it may be given out
   * once that is committed.
   * @throws Fault FAILED_PRECONDITION if it would have ended already, INVALID_ARGUMENT for its names
   */
  async signX509(tx: Transaction, request: X509Request): Promise<SignedX509> {
    const { kind, spki, id, dnsNames = [], ipAddresses = [] } = request;
    const now = this.#options.clock.now();
    const signed = this.#signers.leaf.sign({
      spki,
      uri: id,
      dnsNames,
      ipAddresses,
      notAfter: request.notAfter,
      now,
    });
    const { serial, notAfter } = signed;
    await this.#record(tx, request, { kind, serial, notAfter, issuedAt: now });
    return { chain: [signed.der], serial, notAfter };
  }

  /**
   * As `signX509`, for a token. Its `jti` is its serial in the ledger.
   * @throws Fault FAILED_PRECONDITION if it would have ended already
   */
  async signJwt(tx: Transaction, request: JwtRequest): Promise<SignedJwt> {
    const { row, privateKey } = this.#signers.jwt;
    const now = this.#options.clock.now();
    const issuedAt = wholeSeconds(now.getTime());
    const end = Math.min(request.notAfter.getTime(), row.notAfter.getTime());
    const expiresAt = wholeSeconds(end);
    if (expiresAt <= now)
      throw new Fault('FAILED_PRECONDITION', 'the token would have ended already');
    const serial = randomId('j_');
    const token = signJwtSvid({
      id: request.id,
      audience: [...request.audience],
      issuedAt,
      expiresAt,
      keyId: row.id,
      key: privateKey,
      jti: serial,
    });
    await this.#record(tx, request, { kind: 'jwt', serial, notAfter: expiresAt, issuedAt: now });
    return { token, issuedAt, expiresAt };
  }

  async #record(
    tx: Transaction,
    ground: Ground,
    issued: Pick<Issued, 'kind' | 'serial' | 'notAfter' | 'issuedAt'>,
  ): Promise<void> {
    const { actor, attributes = {} } = ground;
    await recordIssued(tx, this.#options, {
      ...issued,
      spiffeId: ground.id.toString(),
      entryId: ground.entryId,
      agentId: ground.agentId,
      event: { type: 'identity.svid.issued', actor, attributes },
    });
  }
}

interface TakenUp {
  readonly x509: ActiveAuthority;
  readonly jwt: ActiveAuthority;
  readonly rows: readonly AuthorityRow[];
  readonly sequence: bigint;
}

async function takeUp(tx: Transaction, options: AuthorityOptions): Promise<TakenUp> {
  const { keys } = options;
  let changed = (await dropEnded(tx, options.clock.now())) > 0;
  for (const kind of ['x509', 'jwt'] as const) {
    if (await ensureActive(tx, kind, { ...options, lifetimeMs: LIFETIME_MS })) changed = true;
  }
  const sequence = await bundleSequence(tx, changed);
  const rows = await listAuthorities(tx);
  const x509 = await findActive(rows, 'x509', keys);
  const jwt = await findActive(rows, 'jwt', keys);
  if (x509 === undefined || jwt === undefined) throw new Error('an authority has just been lost');
  return { x509, jwt, rows, sequence };
}

function dropEnded(tx: Transaction, now: Date): Promise<number> {
  return tx.run(
    `delete from authorities where kind in ('x509', 'jwt') and not_after_ms <= ?`,
    now.getTime() - GRACE_MS,
  );
}

async function bundleSequence(tx: Transaction, changed: boolean): Promise<bigint> {
  const row = await tx.get(`select value from meta where key = 'bundle_sequence'`);
  const sequence = BigInt(String(row?.value ?? 0)) + (changed ? 1n : 0n);
  await tx.run(
    `insert into meta (key, value) values ('bundle_sequence', ?)
     on conflict (key) do update set value = excluded.value`,
    String(sequence),
  );
  return sequence;
}

function bundleOf(
  trustDomain: TrustDomain,
  rows: readonly AuthorityRow[],
  sequenceNumber: bigint,
): Bundle {
  return makeBundle({
    trustDomain,
    x509: rows.flatMap(({ certificate, tainted }) =>
      certificate === undefined ? [] : [x509Authority(certificate, tainted)],
    ),
    jwt: rows
      .filter(({ kind }) => kind === 'jwt')
      .map(({ id, publicKey, notAfter, tainted }) => ({
        keyId: id,
        publicKey,
        expiresAt: notAfter,
        tainted,
      })),
    sequenceNumber,
    refreshHintSeconds: REFRESH_HINT_SECONDS,
  });
}

function wholeSeconds(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000);
}
