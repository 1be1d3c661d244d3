import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { type Bundle, bundlePins } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import { type Actor, SERVER_ACTOR } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { instant, text } from '../plugins/datastore/row.ts';
import { SharedTransactions } from '../plugins/datastore/shared-transactions.ts';
import type { JoinToken, JoinTokenStore } from '../plugins/node-attestor/join-token.ts';
import type { Entries } from '../registry/entries.ts';
import { joinTokenHandle } from '../registry/join-token-ids.ts';
import { idMessage } from '../registry/spiffe-id-message.ts';

const MAXIMUM_TTL_SECONDS = 24 * 60 * 60;
const MAXIMUM_TOKEN_BYTES = 512;

export interface JoinTokensOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly entries: Entries;
  readonly bundle: WatchedSource<Bundle>;
}

export interface JoinTokenInit {
  readonly ttlSeconds: number;
  /** A node alias: entries with this parent reach the agent that spends the token. */
  readonly alias?: SpiffeId;
  /** The secret, untrusted; one is made if there is none. */
  readonly token?: string;
}

export interface MintedToken extends JoinToken {
  /** Shown once; the store has its SHA-256. */
  readonly token: string;
}

/** Secrets that admit one agent each. */
export class JoinTokens implements JoinTokenStore {
  readonly #options: JoinTokensOptions;

  constructor(options: JoinTokensOptions) {
    this.#options = options;
  }

  /**
   * A token with the pin of the bundle, in one string: what an agent's first contact needs (threats S12).
   * @throws Fault INVALID_ARGUMENT
   */
  async createJoinString(
    init: Omit<JoinTokenInit, 'token'>,
    actor: Actor,
  ): Promise<JoinToken & { readonly joinString: string }> {
    const token = randomBytes(32).toString('base64url');
    const minted = await this.create({ ...init, token }, actor);
    const pins = bundlePins(this.#options.bundle.value);
    return { ...minted, joinString: ['writ1', token, ...pins].join('.') };
  }

  /** @throws Fault INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION for the alias */
  async create(init: JoinTokenInit, actor: Actor): Promise<MintedToken> {
    const { store, clock, audit, entries, bundle } = this.#options;
    const { ttlSeconds, alias, token = randomUUID() } = init;
    if (!(ttlSeconds >= 1 && ttlSeconds <= MAXIMUM_TTL_SECONDS))
      throw new Fault('INVALID_ARGUMENT', `ttl must be 1 to ${MAXIMUM_TTL_SECONDS} seconds`);
    if (Buffer.byteLength(token) > MAXIMUM_TOKEN_BYTES)
      throw new Fault('INVALID_ARGUMENT', `token is longer than ${MAXIMUM_TOKEN_BYTES} bytes`);
    const handle = joinTokenHandle(token);
    const expiresAt = new Date(clock.now().getTime() + ttlSeconds * 1000);
    const { trustDomain } = bundle.value;
    return SharedTransactions.of(store).run(async (tx) => {
      const added = await tx.run(
        `insert into join_tokens (sha256, handle, agent_id, expires_at_ms) values (?, ?, ?, ?)
         on conflict (sha256) do nothing`,
        sha256(Buffer.from(token)),
        handle,
        alias?.toString() ?? null,
        expiresAt.getTime(),
      );
      if (added === 0) throw new Fault('ALREADY_EXISTS', 'a join token of that value is there');
      await audit.append(tx, {
        type: 'join_token.created',
        outcome: Outcome.SUCCESS,
        actor,
        spiffeId: alias?.toString() ?? '',
        attributes: { handle, expires_at: expiresAt.toISOString() },
      });
      if (alias !== undefined) {
        const agent = SpiffeId.fromSegments(trustDomain, 'spire', 'agent', 'join_token', handle);
        const parentId = idMessage(agent);
        const selectors = [{ type: 'spiffe_id', value: agent.toString() }];
        await entries.create(tx, { spiffeId: idMessage(alias), parentId, selectors }, { actor });
      }
      return { token, handle, expiresAt };
    });
  }

  /** Spends a token, also one that has expired, with the alias made for that. */
  take(token: Uint8Array): Promise<JoinToken | undefined> {
    const { store, clock } = this.#options;
    return SharedTransactions.of(store).run(async (tx) => {
      const row = await tx.get(
        'delete from join_tokens where sha256 = ? returning handle, expires_at_ms',
        sha256(token),
      );
      if (row === undefined) return undefined;
      const taken = { handle: text(row, 'handle'), expiresAt: instant(row, 'expires_at_ms') };
      if (taken.expiresAt <= clock.now()) await this.#dropAlias(tx, taken.handle);
      return taken;
    });
  }

  /** Drops the tokens that nobody spent in time, with the aliases made for them. */
  async dropExpired(tx: Transaction, now: Date): Promise<void> {
    const rows = await tx.all(
      'delete from join_tokens where expires_at_ms <= ? returning handle',
      now.getTime(),
    );
    for (const row of rows) await this.#dropAlias(tx, text(row, 'handle'));
  }

  /** Of a token that admits nobody any more. */
  async #dropAlias(tx: Transaction, handle: string): Promise<void> {
    const { entries, bundle } = this.#options;
    const segments = ['spire', 'agent', 'join_token', handle];
    const agent = SpiffeId.fromSegments(bundle.value.trustDomain, ...segments);
    await entries.deleteOwnAliases(tx, agent.toString(), { actor: SERVER_ACTOR });
  }
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
