import { readFile } from 'node:fs/promises';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { RoleCredential, RoleKeeper } from '../client/client-session.ts';

export interface SharedAccountOptions {
  readonly address: Pick<PostgresBackend, 'loginUser' | 'loginPasswordFile'>;
  readonly expiresAt: Date;
  readonly clock: Clock;
  /** Waits for what must be known before a session may begin. */
  ready(): Promise<void>;
}

/**
 * Sessions of a backend whose roles cannot be changed: all log in with the gateway's own account. It
 * is neither made nor sealed nor dropped.
 */
export class SharedAccount implements RoleKeeper {
  readonly #options: SharedAccountOptions;

  constructor(options: SharedAccountOptions) {
    this.#options = options;
  }

  async open({ onTurn }: { onTurn?(): void }): Promise<RoleCredential> {
    const { address, expiresAt, clock, ready } = this.#options;
    if (clock.now() >= expiresAt) {
      throw new Fault('PERMISSION_DENIED', "the backend's exception has expired");
    }
    await ready();
    const password = await readPassword(address.loginPasswordFile);
    onTurn?.();
    return { role: address.loginUser, password };
  }

  async seal(): Promise<void> {
    // There is nothing to seal: the account serves the next session too.
  }

  async close(): Promise<void> {
    // The connection's end is the session's end.
  }
}

async function readPassword(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    throw new Fault('UNAVAILABLE', 'the gateway cannot log in to the backend', { cause: error });
  }
}
