import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { VerbIo } from '../verb.ts';
import type { DemoDatabase } from './demo-database.ts';
import { ensureLoginPassword, setUpBackend } from './demo-dba.ts';
import {
  accessYaml,
  BACKEND,
  backendYaml,
  SSH_BACKEND,
  sshBackendYaml,
  sshGrantYaml,
} from './demo-resources.ts';
import type { Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

/**
 * The database's backend, and on the first start its classes and the sample's grant; then the
 * database's setup. Returns the password of the gateway's login.
 */
export async function declareDatabase(options: {
  readonly plan: Plan;
  readonly state: StateDir;
  readonly database: DemoDatabase;
  readonly io: VerbIo;
}): Promise<string> {
  const { plan, state, database, io } = options;
  const passwordFile = state.in('gateway', 'shop.password');
  const password = await ensureLoginPassword(passwordFile);
  await declare(BACKEND, backendYaml(database, passwordFile), accessYaml(plan), io);
  await setUpBackend(database, password, io);
  return password;
}

/** The SSH target's backend, and on its first start the sample's grant. */
export async function declareTarget(plan: Plan, account: string, io: VerbIo): Promise<void> {
  await declare(SSH_BACKEND, sshBackendYaml(account, plan.ports.sshd), sshGrantYaml(plan), io);
}

async function declare(
  backend: string,
  backendFile: string,
  accessFile: string,
  io: VerbIo,
): Promise<void> {
  const resources = io.admin(ResourceService);
  const known = await resources.listResources({ kind: 'Backend' }, { signal: io.signal });
  const files = [{ name: 'backend.yaml', content: backendFile }];
  if (!known.resources.some(({ name }) => name === backend)) {
    files.push({ name: 'access.yaml', content: accessFile });
  }
  await resources.apply({ files }, { signal: io.signal });
}
