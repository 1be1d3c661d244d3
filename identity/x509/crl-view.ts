import type { Clock } from '../../runtime/clock.ts';
import type { Certificate } from './certificate.ts';
import { CRL_REASON, type Crl, isCrlOf } from './crl.ts';

/** What is known of one serial of one authority. */
export type RevocationStatus = 'good' | 'revoked' | 'held' | 'outdated';

/** Tells of a certificate whose chain verifies; `authority` is the one that signed it. */
export type RevocationView = (serial: string, authority: Certificate) => RevocationStatus;

/** Beyond it no authorities are taken note of: a trust domain has a handful. */
const MOST_AUTHORITIES = 64;

/**
 * The newest revocation list of each authority, as it was seen by a relying party. An authority that no
 * list was ever seen of revokes nothing; one whose list was seen, and is older than twice its time, can
 * no longer be relied upon.
 */
export class CrlView {
  readonly #clock: Clock;
  readonly #onBad: (crl: Crl) => void;
  /** By authority key id, hex: not verified before an authority is asked about. */
  #offered: ReadonlyMap<string, readonly Crl[]> = new Map();
  /** By hex of the authority's key. */
  readonly #verified = new Map<string, Crl>();

  /** @param onBad told of each list that its authority has not signed */
  constructor({ clock, onBad }: { readonly clock: Clock; onBad(crl: Crl): void }) {
    this.#clock = clock;
    this.#onBad = onBad;
  }

  /** Takes over all lists that are offered now; those seen before stay until a newer one is seen. */
  offer(lists: readonly Crl[]): void {
    const offered = new Map<string, Crl[]>();
    for (const crl of lists) {
      const id = hex(crl.authorityKeyId);
      offered.set(id, [...(offered.get(id) ?? []), crl]);
    }
    this.#offered = offered;
  }

  readonly status: RevocationView = (serial, authority) => {
    const crl = this.#newestOf(authority);
    if (crl === undefined) return 'good';
    const reason = crl.revoked.get(serial)?.reason;
    if (reason !== undefined && reason !== CRL_REASON.certificateHold) return 'revoked';
    const { thisUpdate, nextUpdate } = crl;
    const end = 2 * nextUpdate.getTime() - thisUpdate.getTime();
    if (this.#clock.now().getTime() > end) return 'outdated';
    return reason === undefined ? 'good' : 'held';
  };

  #newestOf(authority: Certificate): Crl | undefined {
    const key = hex(authority.spki);
    const id = hex(authority.subjectKeyId ?? Buffer.of());
    const offered = this.#offered.get(id);
    if (offered !== undefined) {
      for (const crl of offered) this.#takeUp(crl, authority, key);
      this.#offered = without(this.#offered, id);
    }
    return this.#verified.get(key);
  }

  #takeUp(crl: Crl, authority: Certificate, key: string): void {
    const known = this.#verified.get(key);
    // Servers that share a store tell of theirs in any order.
    if (known !== undefined && crl.number <= known.number) return;
    if (!isCrlOf(crl, authority)) {
      this.#onBad(crl);
      return;
    }
    // Those asked about longest ago are the first to have ended.
    const [oldest] = this.#verified.keys();
    if (this.#verified.size >= MOST_AUTHORITIES && oldest !== undefined)
      this.#verified.delete(oldest);
    this.#verified.delete(key);
    this.#verified.set(key, crl);
  }
}

function without<V>(map: ReadonlyMap<string, V>, key: string): ReadonlyMap<string, V> {
  return new Map([...map].filter(([one]) => one !== key));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
