import type {
  PostgresBackend,
  PostgresRights,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { ResultGuard } from '../masking/result-guard.ts';
import type { JudgedStatement } from '../relay/statement-log.ts';
import type { IterationBounds } from '../upstream/scram.ts';

/** Makes and removes the roles that sessions log in as. */
export interface RoleKeeper {
  /** A role that can log in once, with the rights of `group`. */
  open(request: {
    group: string;
    viewSchema: string;
    sessionId: string;
    lifeMs: number;
    /** Whether the session is to be on a standby (threats P14). */
    replica: boolean;
    /** Called when the role is about to be opened where the session will be; the last call counts. */
    onTurn?(address: PostgresBackend): void;
  }): Promise<RoleCredential>;
  /** No second login (threats P5). */
  seal(role: string): Promise<void>;
  /** Ends what it runs and removes it. */
  close(role: string): Promise<void>;
}

export interface RoleCredential {
  readonly role: string;
  /** Undefined where the client certificate of the address alone proves it. */
  readonly password: string | undefined;
  /** Those of a random password unless given. */
  readonly iterations?: IterationBounds;
  /** Where to log in. */
  readonly address: PostgresBackend;
  /** The backend did not take it. @returns another password for the same role, if there is one now */
  refused?(): Promise<string | undefined>;
}

/** What runs for one database of a backend. */
export interface ServedBackend {
  /** As a backend of that database alone. */
  readonly postgres: PostgresBackend;
  readonly roles: RoleKeeper;
  /** Masks what the database does not; undefined if nothing is masked here. */
  readonly guard: ResultGuard | undefined;
  judge(sql: string, grant: { rights: PostgresRights; hmacKey: Uint8Array }): JudgedStatement;
  /** As `judge`, for texts that would take long. @param text UTF-8; must not change until then */
  judgeLong(
    text: Uint8Array,
    grant: { rights: PostgresRights; hmacKey: Uint8Array },
    signal: AbortSignal,
  ): Promise<JudgedStatement>;
}
