import type { BackendProtocol } from './backend/backend.ts';
import { postgresBackend } from './backend/postgres/postgres.ts';
import { sshBackend } from './backend/ssh/ssh.ts';

/** Every protocol that a gateway can listen for, by its name in `listen:`. */
export const BACKEND_PROTOCOLS = {
  postgres: postgresBackend,
  ssh: sshBackend,
} as const satisfies Record<string, () => BackendProtocol>;

export type ProtocolName = keyof typeof BACKEND_PROTOCOLS;
