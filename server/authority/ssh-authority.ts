/**
 * The only holder of the keys that sign SSH certificates: what it signs is in the ledger and the audit
 * log before it is given out. Each kind of certificate has a key of its own, so that who trusts one
 * kind takes no other (threats S2).
 */
import { randomBytes } from 'node:crypto';
import { signSshCertificateBy } from '../../identity/ssh/certificate.ts';
import { encodePublicKey, fingerprint } from '../../identity/ssh/public-key.ts';
import { signMessage } from '../../identity/ssh/signed-message.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { EventInit } from '../audit/audit-log.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import type { Authorities } from './authorities.ts';
import type { AuthorityRow, SshKind } from './authority-rows.ts';
import { type AuthoritiesState, activeOf, rowsOfKind } from './authority-state.ts';
import { type Issued, type Ledger, recordIssued } from './ledger.ts';

/** Verifiers whose clocks are behind take a new certificate too. */
const SKEW_MS = 30_000;

export interface SshAuthorityOptions extends Ledger {
  readonly authorities: Authorities;
  readonly clock: Clock;
}

/** Public keys (RFC 4253 6.6) of the authorities that are trusted, those that sign first. */
export interface SshAuthorityKeys {
  readonly user: readonly Uint8Array[];
  readonly host: readonly Uint8Array[];
  readonly gateway: readonly Uint8Array[];
}

/** A certificate that was decided on. */
export interface SshRequest {
  readonly kind: SshKind;
  /** A plain key's blob. */
  readonly publicKey: Uint8Array;
  readonly keyId: string;
  readonly principals: readonly string[];
  readonly notAfter: Date;
  readonly criticalOptions?: Readonly<Record<string, string>>;
  readonly extensions?: readonly string[];
  /** Whose it is, as the ledger has it; '' for the target of a backend. */
  readonly spiffeId: string;
  readonly entryId?: string;
  readonly agentId?: string;
  /** Its actor, and what else it tells. */
  readonly event: EventInit;
}

export interface SignedSsh {
  readonly certificate: Uint8Array;
  /** Decimal, as `ssh-keygen -L` prints it. */
  readonly serial: string;
  readonly notAfter: Date;
}

export class SshAuthority {
  readonly #options: SshAuthorityOptions;
  readonly #authorities: KeysOfState;

  constructor(options: SshAuthorityOptions) {
    this.#options = options;
    this.#authorities = new KeysOfState(options.authorities);
  }

  /** What verifiers trust. */
  get authorities(): WatchedSource<SshAuthorityKeys> {
    return this.#authorities;
  }

  /**
   * Signs a certificate, with its row in the ledger and its event in this transaction: it may be given
   * out once that is committed.
   * @throws Fault FAILED_PRECONDITION if it would have ended already
   */
  async sign(tx: Transaction, request: SshRequest): Promise<SignedSsh> {
    const { kind, publicKey, keyId, principals, criticalOptions = {}, extensions = [] } = request;
    const active = activeOf(this.#options.authorities.state.value, kind);
    if (active === undefined) throw new Fault('UNAVAILABLE', 'there is no authority that can sign');
    const { row, signer } = active;
    const now = this.#options.clock.now();
    const notAfter = wholeSeconds(Math.min(request.notAfter.getTime(), row.notAfter.getTime()));
    if (notAfter <= now)
      throw new Fault('FAILED_PRECONDITION', 'the certificate would have ended already');
    const serial = randomBytes(8).readBigUInt64BE() >> 1n;
    const certificate = await signSshCertificateBy(
      {
        type: kind === 'ssh-host' ? 'host' : 'user',
        ...{ publicKey, serial, keyId, principals, criticalOptions, extensions },
        validAfter: new Date(now.getTime() - SKEW_MS),
        validBefore: notAfter,
      },
      signer,
    );
    const issued = { serial: serial.toString(), issuedAt: now, notAfter, authorityId: row.id };
    await this.#record(tx, request, issued);
    return { certificate, serial: serial.toString(), notAfter };
  }

  /** Signs a message that no verifier of certificates or logins takes for its own: see `signMessage`. */
  async signMessage(namespace: string, message: Uint8Array): Promise<Uint8Array> {
    const active = activeOf(this.#options.authorities.state.value, 'ssh-user');
    if (active === undefined) throw new Fault('UNAVAILABLE', 'there is no authority that can sign');
    return signMessage(active.signer, namespace, message);
  }

  #record(
    tx: Transaction,
    { kind, publicKey, principals, spiffeId, entryId, agentId, event }: SshRequest,
    issued: Pick<Issued, 'serial' | 'issuedAt' | 'notAfter' | 'authorityId'>,
  ): Promise<void> {
    const attributes = {
      ...event.attributes,
      principals: principals.join(' '),
      public_key: fingerprint(publicKey),
    };
    const whole = {
      ...{ ...issued, kind, spiffeId, entryId, agentId },
      event: { ...event, type: 'identity.ssh_certificate.issued', attributes },
    };
    return recordIssued(tx, this.#options, [whole]);
  }
}

/** The keys of a state, made once for each and told only when they are others. */
class KeysOfState implements WatchedSource<SshAuthorityKeys> {
  readonly #authorities: Authorities;
  #made: { readonly of: string; readonly keys: SshAuthorityKeys } | undefined;

  constructor(authorities: Authorities) {
    this.#authorities = authorities;
  }

  get value(): SshAuthorityKeys {
    return this.#keysOf(this.#authorities.state.value);
  }

  async *values(signal: AbortSignal): AsyncIterable<SshAuthorityKeys> {
    let told: SshAuthorityKeys | undefined;
    for await (const state of this.#authorities.state.values(signal)) {
      const keys = this.#keysOf(state);
      if (keys === told) continue;
      told = keys;
      yield keys;
    }
  }

  #keysOf(state: AuthoritiesState): SshAuthorityKeys {
    const trusted = (kind: SshKind) => rowsOfKind(state, kind).filter(({ tainted }) => !tainted);
    const [user, host, gateway] = [
      trusted('ssh-user'),
      trusted('ssh-host'),
      trusted('ssh-gateway'),
    ];
    const of = [user, host, gateway].map((rows) => rows.map(({ id }) => id).join(' ')).join(',');
    if (this.#made?.of !== of) {
      const keys = { user: user.map(blob), host: host.map(blob), gateway: gateway.map(blob) };
      this.#made = { of, keys };
    }
    return this.#made.keys;
  }
}

function blob({ publicKey }: AuthorityRow): Uint8Array {
  return encodePublicKey(publicKey);
}

function wholeSeconds(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000);
}
