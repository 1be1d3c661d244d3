import type { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { type SshTarget, sshTargets } from '../access/ssh-targets.ts';
import type { SshIssuer } from '../authority/ssh-issuer.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { type EntryIndex, idText } from '../registry/entry-index.ts';
import { actorOf, type Caller } from './callers.ts';
import { agentOf } from './entry-service.ts';
import { certificateMessage } from './ssh-message.ts';

export interface AgentSshServiceOptions {
  readonly reader: Reader;
  readonly clock: Clock;
  readonly index: EntryIndex;
  readonly sshIssuer: SshIssuer;
}

type Service = Pick<
  Implementation<typeof AgentService, Caller>,
  'signSshCertificate' | 'listSshTargets'
>;

const MAXIMUM_ENTRIES = 500;

/** What agents ask for the workloads that log in by SSH. */
export function agentSshService(options: AgentSshServiceOptions): Service {
  const { reader, clock, index, sshIssuer } = options;
  const hostAuthorities = () => [...sshIssuer.authorities.host];
  return {
    async signSshCertificate({ entryId, publicKey }, { caller }) {
      if (entryId === '') throw new Fault('INVALID_ARGUMENT', 'missing entry ID');
      const { record } = agentOf(caller);
      const asked = { entryId, publicKey };
      const signed = await sshIssuer.newUserCertificate(record, asked, actorOf(caller));
      return { ...certificateMessage(signed), hostAuthorities: hostAuthorities() };
    },

    async listSshTargets({ entryIds }, { caller }) {
      if (entryIds.length > MAXIMUM_ENTRIES)
        throw new Fault('RESOURCE_EXHAUSTED', `more than ${MAXIMUM_ENTRIES} entries in one call`);
      const { record } = agentOf(caller);
      const now = clock.now();
      // One that has just been deleted is no failure; it gives nothing.
      const entries = entryIds.flatMap((id) => index.authorisedEntry(record, id, now) ?? []);
      const spiffeIds = entries.map(({ spiffeId }) => idText(spiffeId));
      const targets = await sshTargets(reader, spiffeIds, now);
      return { targets: targets.map(targetMessage), hostAuthorities: hostAuthorities() };
    },
  };
}

function targetMessage({ backend, logins, gateways, spiffeIds }: SshTarget) {
  return {
    backend,
    logins: [...logins],
    gateways: gateways.map(({ name, hosts, port }) => ({ name, hosts: [...hosts], port })),
    spiffeIds: [...spiffeIds],
  };
}
