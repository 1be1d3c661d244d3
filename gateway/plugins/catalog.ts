import type { BackendProtocol } from './backend/backend.ts';
import { postgresBackend } from './backend/postgres/postgres.ts';

/** Every protocol that a gateway can listen for, by its name in `listen:`. */
export const BACKEND_PROTOCOLS = {
  postgres: postgresBackend,
} as const satisfies Record<string, () => BackendProtocol>;

export type ProtocolName = keyof typeof BACKEND_PROTOCOLS;
