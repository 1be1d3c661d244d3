import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { RegistrarService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { listRegistrars, type Registrars, registrarMessage } from '../registry/registrars.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface RegistrarServiceOptions {
  readonly reader: Reader;
  readonly registrars: Registrars;
  readonly trustDomain: TrustDomain;
}

/** Registrars and their bounds, for operators. */
export function registrarService({
  reader,
  registrars,
  trustDomain,
}: RegistrarServiceOptions): Implementation<typeof RegistrarService, Caller> {
  return {
    async putRegistrar({ registrar }, { caller }) {
      if (registrar === undefined) throw new Fault('INVALID_ARGUMENT', 'registrar is missing');
      const record = await registrars.put(registrar, actorOf(caller));
      return { registrar: registrarMessage(record) };
    },

    async listRegistrars() {
      return { registrars: (await listRegistrars(reader)).map(registrarMessage) };
    },

    async deleteRegistrar({ spiffeId }, { caller }) {
      const id = memberIdFromText(spiffeId, trustDomain, 'spiffe_id');
      await registrars.delete(id, actorOf(caller));
      return {};
    },
  };
}
