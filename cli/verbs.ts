/** Every command of `writ`, in the order of its usage. */
import type { Verb } from './verb.ts';
import { agentRun } from './verbs/agent-run.ts';
import { agentBan, agentEvict, agentList, agentShow } from './verbs/agents.ts';
import { apply } from './verbs/apply.ts';
import { auditExport } from './verbs/audit-export.ts';
import { auditTail } from './verbs/audit-tail.ts';
import { auditVerify } from './verbs/audit-verify.ts';
import {
  authorityActivate,
  authorityList,
  authorityPrepare,
  authorityRevoke,
  authorityTaint,
} from './verbs/authorities.ts';
import { backendAdd } from './verbs/backend-add.ts';
import { backendCheck } from './verbs/backend-check.ts';
import { backendProve } from './verbs/backend-prove.ts';
import { backendRotate } from './verbs/backend-rotate.ts';
import { backendScan } from './verbs/backend-scan.ts';
import { backendSetup } from './verbs/backend-setup.ts';
import { entryDelete, entryList, entryShow } from './verbs/entries.ts';
import { entryCreate } from './verbs/entry-create.ts';
import { exec } from './verbs/exec.ts';
import { fetchBundle, fetchJwt, fetchSsh, fetchX509 } from './verbs/fetch.ts';
import { gatewayRun } from './verbs/gateway-run.ts';
import { gatewayCreate, gatewayList } from './verbs/gateways.ts';
import { grantList, grantRevoke, grantShow } from './verbs/grants.ts';
import {
  identityActivate,
  identityList,
  identityRetire,
  identityShow,
  identitySuspend,
} from './verbs/identities.ts';
import { identityCreate, identityUpdate } from './verbs/identity-put.ts';
import { importSpire } from './verbs/import-spire.ts';
import { lockCreate, lockDelete, lockList } from './verbs/locks.ts';
import { registrarDelete, registrarList, registrarPut, registrarShow } from './verbs/registrars.ts';
import { secretDelete, secretList, secretPut, secretRetire } from './verbs/secrets.ts';
import { serverBackup, serverLimitAdminSocket, serverUnlock } from './verbs/server-backup.ts';
import { serverBundle } from './verbs/server-bundle.ts';
import { serverRestore } from './verbs/server-restore.ts';
import { serverRun } from './verbs/server-run.ts';
import { serverUpgrade } from './verbs/server-upgrade.ts';
import { sessionReplay } from './verbs/session-replay.ts';
import { sessionKill, sessionList, sessionShow } from './verbs/sessions.ts';
import { sshConfig } from './verbs/ssh-config.ts';
import { sshHostEnroll } from './verbs/ssh-host-enroll.ts';
import { tokenCreate } from './verbs/token-create.ts';
import { up } from './verbs/up.ts';

export const VERBS: readonly Verb[] = [
  up,
  serverRun,
  serverBackup,
  serverRestore,
  serverUpgrade,
  serverUnlock,
  serverBundle,
  serverLimitAdminSocket,
  agentRun,
  gatewayRun,
  tokenCreate,
  agentList,
  agentShow,
  agentBan,
  agentEvict,
  entryCreate,
  entryList,
  entryShow,
  entryDelete,
  identityCreate,
  identityUpdate,
  identityList,
  identityShow,
  identitySuspend,
  identityActivate,
  identityRetire,
  registrarPut,
  registrarList,
  registrarShow,
  registrarDelete,
  authorityList,
  authorityPrepare,
  authorityActivate,
  authorityTaint,
  authorityRevoke,
  apply,
  grantList,
  grantShow,
  grantRevoke,
  backendAdd,
  backendSetup,
  backendCheck,
  backendScan,
  backendProve,
  backendRotate,
  secretPut,
  secretList,
  secretRetire,
  secretDelete,
  gatewayCreate,
  gatewayList,
  sessionList,
  sessionShow,
  sessionKill,
  sessionReplay,
  lockCreate,
  lockList,
  lockDelete,
  auditTail,
  auditExport,
  auditVerify,
  importSpire,
  fetchX509,
  fetchJwt,
  fetchSsh,
  fetchBundle,
  exec,
  sshConfig,
  sshHostEnroll,
];
