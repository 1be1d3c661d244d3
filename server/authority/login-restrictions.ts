import { isIP } from 'node:net';
import type { SshRights } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { GatewayRecord } from '../access/gateways.ts';
import { withoutPort } from '../attestation/attest-agent.ts';

/** What a certificate for one login lets its holder do on the target. */
export interface LoginRestrictions {
  readonly criticalOptions: Readonly<Record<string, string>>;
  readonly extensions: readonly string[];
}

/**
 * What sshd itself holds a gateway to, should it have been taken over. A command is forced only where
 * there can be no other: sshd lets no signal through to one that is forced, and the gateway ends
 * processes by signals.
 * @param peerAddress `ip:port` that the gateway calls from
 * @throws Fault PERMISSION_DENIED if the rights give nothing, FAILED_PRECONDITION if the gateway's
 * address is not known
 */
export function loginRestrictions(
  { shell, exec, commands, sftp }: SshRights,
  gateway: Pick<GatewayRecord, 'names'>,
  peerAddress: string,
): LoginRestrictions {
  const hasCommands = exec || commands.length > 0;
  if (!shell && !hasCommands && !sftp)
    throw new Fault('PERMISSION_DENIED', 'the grant lets nothing be opened');
  const addresses = new Set([...gateway.names, withoutPort(peerAddress)].filter(isAddress));
  if (addresses.size === 0)
    throw new Fault('FAILED_PRECONDITION', 'the address of this gateway is not known');
  return {
    criticalOptions: {
      'source-address': [...addresses].join(','),
      ...(!shell && !hasCommands && { 'force-command': 'internal-sftp' }),
    },
    extensions: shell ? ['permit-pty'] : [],
  };
}

/** An address with a zone means nothing on another host. */
function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}
