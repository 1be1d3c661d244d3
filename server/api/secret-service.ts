import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { SecretService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { findRotation, type RotationRecord } from '../governance/rotation-rows.ts';
import type { Rotations } from '../governance/rotations.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { secretsByBackend } from '../secrets/backends-naming.ts';
import { listSecrets } from '../secrets/secret-rows.ts';
import type { Secrets } from '../secrets/secrets.ts';
import { actorOf, type Caller } from './callers.ts';

export interface SecretServiceOptions {
  readonly reader: Reader;
  readonly secrets: Secrets;
  readonly rotations: Rotations;
}

/** The vault, for operators: values go in, and none comes out. */
export function secretService({
  reader,
  secrets,
  rotations,
}: SecretServiceOptions): Implementation<typeof SecretService, Caller> {
  return {
    async putSecret({ name, value }, { caller }) {
      return { version: BigInt(await secrets.put(name, value, actorOf(caller))) };
    },

    async listSecrets() {
      const named = [...(await secretsByBackend(reader))];
      return {
        secrets: (await listSecrets(reader)).map(({ name, versions }) => ({
          name,
          versions: versions.map(({ version, state, createdAt, keyId }) => ({
            ...{ version: BigInt(version), state, keyId },
            createdAt: timestampFromDate(createdAt),
          })),
          backends: named.flatMap(([backend, secret]) => (secret === name ? [backend] : [])),
        })),
      };
    },

    async retireSecret({ name }, { caller }) {
      await secrets.retire(name, actorOf(caller));
      return {};
    },

    async deleteSecret({ name }, { caller }) {
      await secrets.delete(name, actorOf(caller));
      return {};
    },

    async rotateLogin({ backend }, { caller }) {
      return { rotation: rotationMessage(await rotations.begin(backend, actorOf(caller))) };
    },

    async getRotation({ backend }) {
      const rotation = await findRotation(reader, 'backend', backend);
      if (rotation === undefined) throw new Fault('NOT_FOUND', 'no rotation of that backend');
      return { rotation: rotationMessage(rotation) };
    },
  };
}

function rotationMessage(rotation: RotationRecord) {
  const { id, backend, secret, version, step, reason, startedAt, stepAt } = rotation;
  return {
    ...{ id, backend, secret, version: BigInt(version), step, reason },
    startedAt: timestampFromDate(startedAt),
    changedAt: timestampFromDate(stepAt),
  };
}
