/**
 * The only holder of the keys that sign SSH certificates: what it signs is in the ledger and the audit
 * log before it is given out. Each kind of certificate has a key of its own, so that who trusts one
 * kind takes no other (threats S2).
 */
import { randomBytes } from 'node:crypto';
import { signSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey, fingerprint } from '../../identity/ssh/public-key.ts';
import { Fault } from '../../runtime/fault.ts';
import type { EventInit } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import {
  type ActiveAuthority,
  type ActiveAuthorityOptions,
  ensureActive,
  findActive,
} from './active-authority.ts';
import { type AuthorityRow, listAuthorities, SSH_KINDS, type SshKind } from './authority-rows.ts';
import { type Ledger, recordIssued } from './ledger.ts';

const LIFETIME_MS = 10 * 365 * 24 * 60 * 60 * 1000;
/** Verifiers whose clocks are behind take a new certificate too. */
const SKEW_MS = 30_000;

export interface SshAuthorityOptions extends ActiveAuthorityOptions, Ledger {
  readonly store: Datastore;
}

/** Public keys (RFC 4253 6.6) of the authorities, those that sign first. */
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

type Signers = Readonly<Record<SshKind, ActiveAuthority>>;

export class SshAuthority {
  readonly authorities: SshAuthorityKeys;
  readonly #options: SshAuthorityOptions;
  readonly #signers: Signers;

  private constructor(
    options: SshAuthorityOptions,
    signers: Signers,
    rows: readonly AuthorityRow[],
  ) {
    this.#options = options;
    this.#signers = signers;
    this.authorities = publicKeys(signers, rows);
  }

  /** Takes up the authorities of the store, and makes those that are missing. */
  static async open(options: SshAuthorityOptions): Promise<SshAuthority> {
    const { signers, rows } = await options.store.transaction((tx) => takeUp(tx, options));
    return new SshAuthority(options, signers, rows);
  }

  /**
   * Signs a certificate, with its row in the ledger and its event in this transaction: it may be given
   * out once that is committed.
   * @throws Fault FAILED_PRECONDITION if it would have ended already
   */
  async sign(tx: Transaction, request: SshRequest): Promise<SignedSsh> {
    const { kind, publicKey, keyId, principals, criticalOptions = {}, extensions = [] } = request;
    const { row, privateKey } = this.#signers[kind];
    const now = this.#options.clock.now();
    const notAfter = wholeSeconds(Math.min(request.notAfter.getTime(), row.notAfter.getTime()));
    if (notAfter <= now)
      throw new Fault('FAILED_PRECONDITION', 'the certificate would have ended already');
    const serial = randomBytes(8).readBigUInt64BE() >> 1n;
    const certificate = signSshCertificate(
      {
        type: kind === 'ssh-host' ? 'host' : 'user',
        ...{ publicKey, serial, keyId, principals, criticalOptions, extensions },
        validAfter: new Date(now.getTime() - SKEW_MS),
        validBefore: notAfter,
      },
      privateKey,
    );
    await this.#record(tx, request, { serial: serial.toString(), issuedAt: now, notAfter });
    return { certificate, serial: serial.toString(), notAfter };
  }

  #record(
    tx: Transaction,
    { kind, publicKey, principals, spiffeId, entryId, agentId, event }: SshRequest,
    issued: { readonly serial: string; readonly issuedAt: Date; readonly notAfter: Date },
  ): Promise<void> {
    const attributes = {
      ...event.attributes,
      principals: principals.join(' '),
      public_key: fingerprint(publicKey),
    };
    return recordIssued(tx, this.#options, {
      ...{ ...issued, kind, spiffeId, entryId, agentId },
      event: { ...event, type: 'identity.ssh_certificate.issued', attributes },
    });
  }
}

async function takeUp(
  tx: Transaction,
  options: SshAuthorityOptions,
): Promise<{ readonly signers: Signers; readonly rows: readonly AuthorityRow[] }> {
  const now = options.clock.now();
  await tx.run(
    `delete from authorities where kind in ('ssh-user', 'ssh-host', 'ssh-gateway')
       and not_after_ms <= ?`,
    now.getTime(),
  );
  for (const kind of SSH_KINDS) {
    await ensureActive(tx, kind, { ...options, lifetimeMs: LIFETIME_MS });
  }
  const rows = await listAuthorities(tx);
  const signer = async (kind: SshKind) => {
    const found = await findActive(rows, kind, options.keys);
    if (found === undefined) throw new Error('an authority has just been lost');
    return found;
  };
  const signers = {
    'ssh-user': await signer('ssh-user'),
    'ssh-host': await signer('ssh-host'),
    'ssh-gateway': await signer('ssh-gateway'),
  };
  return { signers, rows };
}

/**
 * What an old authority signed for a host stays valid: targets are enrolled for months. Certificates
 * of users and gateways are made anew within minutes, so a key that was lost is trusted no more.
 */
function publicKeys(signers: Signers, rows: readonly AuthorityRow[]): SshAuthorityKeys {
  const blob = (row: AuthorityRow) => encodePublicKey(row.publicKey);
  const oldHosts = rows.filter(
    ({ kind, state, tainted }) => kind === 'ssh-host' && state === 'old' && !tainted,
  );
  return {
    user: [blob(signers['ssh-user'].row)],
    host: [signers['ssh-host'].row, ...oldHosts].map(blob),
    gateway: [blob(signers['ssh-gateway'].row)],
  };
}

function wholeSeconds(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000);
}
