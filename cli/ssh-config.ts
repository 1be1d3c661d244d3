/** Files for a plain OpenSSH client: an ssh_config and its known_hosts. */
import { join } from 'node:path';
import { publicKeyLine } from '../identity/ssh/public-key.ts';
import { writeAtomic } from '../runtime/atomic-file.ts';
import { Fault } from '../runtime/fault.ts';
import { makeDirectory } from '../runtime/make-directory.ts';

export interface SshAccess {
  readonly targets: readonly SshAccessTarget[];
  /** Public key blobs that sign host certificates. */
  readonly hostAuthorities: readonly Uint8Array[];
  /** Path. */
  readonly agentSocket: string;
}

export interface SshAccessTarget {
  readonly backend: string;
  readonly logins: readonly string[];
  readonly gateways: readonly SshAccessGateway[];
}

export interface SshAccessGateway {
  readonly name: string;
  /** As its host certificate names it; the first is used. */
  readonly hosts: readonly string[];
  readonly port: number;
}

/** Writes `ssh_config` and `known_hosts` into the folder; returns the path of the first. */
export async function writeSshConfig(folder: string, access: SshAccess): Promise<string> {
  const knownHosts = join(folder, 'known_hosts');
  const config = join(folder, 'ssh_config');
  const text = sshConfigText(access, knownHosts);
  await makeDirectory(folder, 0o755);
  await writeAtomic(knownHosts, Buffer.from(knownHostsText(access)), 0o644);
  await writeAtomic(config, Buffer.from(text), 0o644);
  return config;
}

/** One `@cert-authority` line for each authority, for the gateways' and the targets' names alone. */
export function knownHostsText({
  targets,
  hostAuthorities,
}: Omit<SshAccess, 'agentSocket'>): string {
  const gateways = gatewaysOf(targets).flatMap(({ hosts, port }) =>
    hosts.flatMap((host) => [host, `[${host}]:${port}`]),
  );
  const names = [...new Set([...targets.map(({ backend }) => backend), ...gateways])];
  if (names.length === 0) return '';
  const lines = hostAuthorities.map(
    (blob) => `@cert-authority ${names.join(',')} ${publicKeyLine(blob)}\n`,
  );
  return lines.join('');
}

/**
 * A `Host` block for each target by way of its first gateway, one for each gateway, and what they share.
 * Nothing of the user's own keys is offered, nothing is forwarded, an unknown host key is refused.
 */
function sshConfigText(access: SshAccess, knownHosts: string): string {
  const gateways = gatewaysOf(access.targets);
  const blocks = gateways.map(({ name, hosts, port }) => [
    `Host ${gatewayAlias(name)}`,
    `  HostName ${hosts[0]}`,
    `  HostKeyAlias ${hosts[0]}`,
    `  Port ${port}`,
    '  User jump',
    // A connection that others share would end with the certificate of who came first.
    '  ControlPath none',
  ]);
  for (const { backend, logins, gateways: ways } of access.targets) {
    const [way] = ways;
    if (way === undefined) continue;
    const [login, ...others] = logins;
    blocks.push([
      `Host ${backend}`,
      `  HostName ${backend}`,
      '  Port 22',
      `  ProxyJump ${gatewayAlias(way.name)}`,
      ...(login === undefined ? [] : [`  User ${login}`]),
      ...(others.length === 0 ? [] : [`  # also as ${others.join(', ')}`]),
    ]);
  }
  const all = [...gateways.map(({ name }) => gatewayAlias(name)), ...targetNames(access)];
  if (all.length === 0) return '# No SSH target is granted to this identity.\n';
  blocks.push([
    `Host ${all.join(' ')}`,
    `  IdentityAgent ${quoted(access.agentSocket)}`,
    '  IdentityFile none',
    '  IdentitiesOnly no',
    '  PreferredAuthentications publickey',
    `  UserKnownHostsFile ${quoted(knownHosts)}`,
    '  GlobalKnownHostsFile /dev/null',
    '  StrictHostKeyChecking yes',
    '  ForwardAgent no',
    '  ForwardX11 no',
  ]);
  return `# Written by writ ssh config.\n${blocks.map((lines) => `\n${lines.join('\n')}\n`).join('')}`;
}

function targetNames({ targets }: SshAccess): string[] {
  return targets.filter(({ gateways }) => gateways.length > 0).map(({ backend }) => backend);
}

/** A name of its own, so that it cannot hide a host of the user's; with `_`, which no target has. */
function gatewayAlias(name: string): string {
  return `writ-gateway_${name}`;
}

function gatewaysOf(targets: readonly SshAccessTarget[]): SshAccessGateway[] {
  const byName = new Map<string, SshAccessGateway>();
  for (const { gateways } of targets) {
    for (const gateway of gateways) if (gateway.hosts.length > 0) byName.set(gateway.name, gateway);
  }
  return [...byName.values()];
}

/** `%` begins a token in ssh_config. @throws Fault USAGE for a path that cannot be quoted there */
function quoted(path: string): string {
  if (/["\p{Cc}]/u.test(path)) {
    throw new Fault('USAGE', `the path ${JSON.stringify(path)} cannot stand in an ssh_config`);
  }
  return `"${path.replaceAll('%', '%%')}"`;
}
