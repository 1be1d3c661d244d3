import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { VerbIo } from '../verb.ts';
import type { DemoDatabase } from './demo-database.ts';
import { ensureLoginPassword, setUpBackend } from './demo-dba.ts';
import { accessYaml, BACKEND, backendYaml } from './demo-resources.ts';
import type { Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

/**
 * The backend, and on the first start its classes and the sample's grant; then the database's setup.
 * Returns the password of the gateway's login.
 */
export async function declareDemo(options: {
  readonly plan: Plan;
  readonly state: StateDir;
  readonly database: DemoDatabase;
  readonly io: VerbIo;
}): Promise<string> {
  const { plan, state, database, io } = options;
  const passwordFile = state.in('gateway', 'shop.password');
  const password = await ensureLoginPassword(passwordFile);
  const resources = io.admin(ResourceService);
  const known = await resources.listResources({ kind: 'Backend' }, { signal: io.signal });
  const files = [{ name: 'backend.yaml', content: backendYaml(database, passwordFile) }];
  if (!known.resources.some(({ name }) => name === BACKEND)) {
    files.push({ name: 'access.yaml', content: accessYaml(plan) });
  }
  await resources.apply({ files }, { signal: io.signal });
  await setUpBackend(database, password, io);
  return password;
}
