/**
 * The authorities of the trust domain through their lives: prepared (known, and signing nothing), active,
 * old (signing no more, and still trusted), tainted, gone. Each step is one transaction with its event; a
 * key is kept before the row that names it, so that a crash leaves at most a key that nobody knows, and
 * that the next start removes.
 */
import type { Bundle, X509Authority } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import { Watched, type WatchedSource } from '../../runtime/watched.ts';
import { type Actor, SERVER_ACTOR } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import type { UpstreamAuthority } from '../plugins/upstream-authority/upstream-authority.ts';
import { AuthorityKeys } from './authority-keys.ts';
import { AUTHORITY_KINDS, type AuthorityKind, type AuthorityRow } from './authority-rows.ts';
import { type AuthoritySettings, DEFAULT_SETTINGS } from './authority-settings.ts';
import { type AuthoritiesState, isSameContent, readState, rowsOfKind } from './authority-state.ts';
import {
  activateAuthority,
  addAuthority,
  dropPrepared,
  retireActive,
  retireLost,
  revokeOld,
  taintOld,
} from './authority-steps.ts';
import { refuseLockOut } from './locked-out.ts';
import { makeAuthority, type NewAuthority } from './new-authority.ts';
import { trustedX509 } from './trusted-rows.ts';
import {
  addTrusted,
  type JwtKey,
  publishedKey,
  revokeUpstreamRoot,
  type TrustedContext,
  taintUpstreamRoot,
} from './trusted-steps.ts';

export interface AuthoritiesOptions {
  readonly store: Datastore;
  readonly audit: AuditLog;
  readonly keys: KeyManager;
  readonly clock: Clock;
  readonly log: Logger;
  readonly trustDomain: TrustDomain;
  /** `DEFAULT_SETTINGS` unless told. */
  readonly settings?: AuthoritySettings;
  readonly upstream?: UpstreamAuthority | undefined;
}

/** What stands in another's bundle. */
export interface AddedAuthorities {
  readonly x509: readonly (Uint8Array | X509Authority)[];
  readonly jwt: readonly JwtKey[];
}

/** Which authority an act is about. */
export interface NamedAuthority {
  readonly kind: AuthorityKind;
  readonly id: string;
}

/** One change: what it does in its transaction. */
export type AuthorityStep<T> = (step: TrustedContext) => Promise<T>;

export class Authorities {
  readonly #options: AuthoritiesOptions;
  readonly #keys: AuthorityKeys;
  readonly #state: Watched<AuthoritiesState>;
  /** Names of keys whose authority is gone. */
  readonly #unowned: string[] = [];
  /** Two are never prepared at once: the second would drop the first. */
  #preparing: Promise<unknown> = Promise.resolve();

  private constructor(options: AuthoritiesOptions, keys: AuthorityKeys, state: AuthoritiesState) {
    this.#options = options;
    this.#keys = keys;
    this.#state = new Watched(state);
  }

  /**
   * Takes up the authorities of the store, and makes those that are missing: one whose key is lost, or
   * that has ended, is replaced by the one that was prepared, or else by a new one.
   * @throws Fault UNAVAILABLE, FAILED_PRECONDITION if the upstream authority signs none
   */
  static async open(
    options: AuthoritiesOptions,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Authorities> {
    const { store, log } = options;
    const keys = new AuthorityKeys(options.keys);
    const first = await readState(store, { ...options, keys });
    const authorities = new Authorities(options, keys, first);
    for (const kind of AUTHORITY_KINDS) await authorities.ensureActive(kind, signal);
    const rows = authorities.state.value.authorities.map(({ row }) => row);
    const removed = await keys.removeOrphans(rows);
    if (removed > 0) log.warn({ count: removed }, 'keys removed that no authority has');
    return authorities;
  }

  get state(): WatchedSource<AuthoritiesState> {
    return this.#state;
  }

  get hasUpstream(): boolean {
    return this.#options.upstream !== undefined;
  }

  /**
   * Makes the next authority of a kind, which is known to all from now on. One that was prepared before,
   * and so has signed nothing, gives way to it.
   * @throws Fault UNAVAILABLE, FAILED_PRECONDITION if the upstream authority signs none
   */
  prepare(kind: AuthorityKind, actor: Actor, signal: AbortSignal): Promise<AuthorityRow> {
    return this.#inTurn(async () => {
      const made = await this.#make(kind, signal);
      await this.#taking(made, (step) => dropPrepared(step, kind), { state: 'prepared', actor });
      return this.#row({ kind, id: made.authority.id });
    });
  }

  /**
   * Lets the prepared authority sign from now on; the active one becomes old.
   * @throws Fault INVALID_ARGUMENT if it is not the prepared one
   */
  async activate(named: NamedAuthority, actor: Actor): Promise<AuthorityRow> {
    await this.change(actor, (step) => activateAuthority(step, named));
    return this.#row(named);
  }

  /**
   * Has everything that an old authority signed made anew.
   * @throws Fault INVALID_ARGUMENT if it is not an old one, FAILED_PRECONDITION if it is tainted already
   */
  async taint(named: NamedAuthority, actor: Actor): Promise<AuthorityRow> {
    await this.change(actor, (step) => taintOld(step, named));
    return this.#row(named);
  }

  /**
   * Drops an old authority, and with it all that it signed.
   * @throws Fault INVALID_ARGUMENT if it is not an old one; FAILED_PRECONDITION if it has to be tainted
   *   first, or agents would be locked out
   */
  async revoke(named: NamedAuthority, actor: Actor): Promise<AuthorityRow> {
    const row = await this.change(actor, async (step) => {
      await revokeOld(step, named, ({ id, taintedAt }) =>
        refuseLockOut(step.tx, [id], { taintedAt, now: step.now }),
      );
      return step.rows.find(({ id }) => id === named.id);
    });
    if (row === undefined) throw new Error('an authority was revoked that is not there');
    return row;
  }

  /**
   * As `taint`, for the upstream's roots with this subject key id (hex).
   * @throws Fault INVALID_ARGUMENT, FAILED_PRECONDITION
   */
  taintUpstream(subjectKeyId: string, actor: Actor): Promise<void> {
    return this.change(actor, (step) => taintUpstreamRoot(step, subjectKeyId));
  }

  /** As `revoke`, for the upstream's roots with this subject key id (hex). */
  revokeUpstream(subjectKeyId: string, actor: Actor): Promise<void> {
    return this.change(actor, (step) =>
      revokeUpstreamRoot(step, subjectKeyId, ({ taintedAt }, below) => {
        const ids = below.map(({ id }) => id);
        return refuseLockOut(step.tx, ids, { taintedAt, now: step.now });
      }),
    );
  }

  /**
   * Puts authorities that are not ours into the bundle.
   * @param added X.509 as DER, untrusted, or what `x509Authority` made
   * @returns the bundle as it is once the transaction is committed
   * @throws Fault INVALID_ARGUMENT
   */
  async append(tx: Transaction, added: AddedAuthorities, actor: Actor): Promise<Bundle> {
    const x509 = added.x509.map((one) => trustedX509('der' in one ? one.der : one, 'appended'));
    const jwt = added.jwt.map((key) => ({ ...publishedKey(key), source: 'appended' as const }));
    const add: AuthorityStep<void> = (step) => addTrusted(step, [...x509, ...jwt]);
    return (await this.#changeIn(tx, actor, add)).state.bundle;
  }

  /**
   * Puts what the upstream authority trusts into the bundle; what it trusts no more is UpstreamWithdrawal's.
   * @throws Fault INVALID_ARGUMENT
   */
  addUpstream({ x509, jwt }: AddedAuthorities): Promise<void> {
    const roots = x509.map((one) => trustedX509('der' in one ? one.der : one, 'upstream'));
    const keys = jwt.map((key) => ({ ...publishedKey(key), source: 'upstream' as const }));
    return this.change(SERVER_ACTOR, (step) => addTrusted(step, [...roots, ...keys]));
  }

  /**
   * Puts the key of a server below this one into the bundle.
   * @returns the bundle as it is once the transaction is committed
   * @throws Fault INVALID_ARGUMENT
   */
  async publish(tx: Transaction, key: JwtKey, actor: Actor): Promise<Bundle> {
    const row = publishedKey(key);
    const add: AuthorityStep<void> = (step) => addTrusted(step, [row]);
    return (await this.#changeIn(tx, actor, add)).state.bundle;
  }

  /** Makes sure that there is one that signs: not ended, and its key there. */
  async ensureActive(kind: AuthorityKind, signal: AbortSignal): Promise<void> {
    const now = this.#options.clock.now();
    const ofKind = this.#state.value.authorities.filter(({ row }) => row.kind === kind);
    const usable = ofKind.filter(({ row, signer }) => signer !== undefined && row.notAfter > now);
    if (usable.some(({ row }) => row.state === 'active')) return;
    const lost = ofKind.find(({ row, signer }) => row.state === 'active' && signer === undefined);
    if (lost !== undefined) {
      this.#options.log.warn({ kind, authority: lost.row.id }, 'the key of an authority is lost');
      await this.change(SERVER_ACTOR, (step) => retireLost(step, lost.row));
    }
    const prepared = usable.find(({ row }) => row.state === 'prepared');
    if (prepared !== undefined) {
      await this.activate({ kind, id: prepared.row.id }, SERVER_ACTOR);
      return;
    }
    await this.#inTurn(async () => {
      const made = await this.#make(kind, signal);
      const actor = SERVER_ACTOR;
      await this.#taking(made, (step) => dropPrepared(step, kind), { state: 'active', actor });
    });
  }

  /** Runs a change in a transaction of its own. */
  async change<T>(actor: Actor, act: AuthorityStep<T>): Promise<T> {
    const { result } = await this.#options.store.transaction((tx) =>
      this.#changeIn(tx, actor, act),
    );
    await this.#removeKeys();
    return result;
  }

  /** Runs a change; what it makes of the state counts, and is told, once it is committed. */
  async #changeIn<T>(
    tx: Transaction,
    actor: Actor,
    act: AuthorityStep<T>,
  ): Promise<{ readonly result: T; readonly state: AuthoritiesState }> {
    const { audit, clock } = this.#options;
    const before = await this.#read(tx);
    const rows = before.authorities.map(({ row }) => row);
    const { trusted } = before;
    const result = await act({ tx, audit, actor, now: clock.now(), rows, trusted });
    let after = await this.#read(tx);
    if (!isSameContent(before.bundle, after.bundle)) {
      await setSequence(tx, after.bundle.sequenceNumber + 1n);
      after = await this.#read(tx);
    }
    const kept = new Set(after.authorities.map(({ row }) => row.keyName));
    const gone = rows.flatMap(({ keyName }) => (kept.has(keyName) ? [] : [keyName]));
    tx.afterCommit(() => {
      this.#state.set(after);
      this.#unowned.push(...gone);
    });
    return { result, state: after };
  }

  /** Removes the keys of authorities that are gone; one that stays is the next start's to remove. */
  async #removeKeys(): Promise<void> {
    for (const name of this.#unowned.splice(0)) {
      try {
        await this.#keys.remove(name);
      } catch (error) {
        this.#options.log.warn(
          { err: error },
          'the key of an authority that is gone stays for now',
        );
      }
    }
  }

  #read(tx: Transaction): Promise<AuthoritiesState> {
    return readState(tx, { ...this.#options, keys: this.#keys });
  }

  #make(kind: AuthorityKind, signal: AbortSignal): Promise<NewAuthority> {
    const { settings = DEFAULT_SETTINGS, upstream, clock, trustDomain } = this.#options;
    const now = clock.now();
    return makeAuthority(kind, {
      ...{ trustDomain, keys: this.#keys, settings, upstream, now, signal },
    });
  }

  /** Takes up what `#make` made, after `first`; if that fails its key goes. */
  async #taking(
    { authority, roots }: NewAuthority,
    first: AuthorityStep<void>,
    { state, actor }: { readonly state: 'prepared' | 'active'; readonly actor: Actor },
  ): Promise<void> {
    try {
      await this.change(actor, async (step) => {
        await first(step);
        await addTrusted(step, roots);
        if (state === 'active') await retireActive(step, authority.kind);
        await addAuthority(step, authority, state);
      });
    } catch (error) {
      // A store that was lost may have kept the row.
      const isUndone = !(error instanceof Fault && error.code === 'STORE_UNAVAILABLE');
      if (isUndone) await this.#keys.remove(authority.keyName);
      throw error;
    }
  }

  #row({ kind, id }: NamedAuthority): AuthorityRow {
    const row = rowsOfKind(this.#state.value, kind).find((one) => one.id === id);
    if (row === undefined) throw new Error('an authority has just been lost');
    return row;
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#preparing.then(act);
    this.#preparing = turn.catch(() => undefined);
    return turn;
  }
}

async function setSequence(tx: Transaction, sequence: bigint): Promise<void> {
  await tx.run(
    `insert into meta (key, value) values ('bundle_sequence', ?)
     on conflict (key) do update set value = excluded.value`,
    String(sequence),
  );
}
