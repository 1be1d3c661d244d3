import { join } from 'node:path';
import type { X509Svid } from '../identity/x509-svid.ts';
import { formatHostPort } from '../runtime/config.ts';
import type { WatchedSource } from '../runtime/watched.ts';
import type { Crls } from './authority/crls.ts';
import { KeptSvid } from './authority/kept-svid.ts';
import { ServerSvid } from './authority/server-svid.ts';
import { type Context, own } from './context.ts';
import { serveCrls } from './crl-endpoint.ts';
import { type AdminSocket, adminRpc, remoteRpc, type Services, tlsEndpoint } from './endpoints.ts';
import type { Callers } from './open-callers.ts';
import type { Core } from './open-core.ts';

export interface DoorParts {
  readonly core: Core;
  readonly callers: Callers;
  readonly services: Services;
  readonly svid: WatchedSource<X509Svid>;
  readonly adminSocket: AdminSocket;
}

/** `host:port` of the ports that are open. */
export interface Ports {
  readonly address: string;
  /** Of the revocation lists, if they are served. */
  readonly crl: string | undefined;
}

/** Opens the server to agents, gateways and operators. */
export async function openDoors(context: Context, parts: DoorParts): Promise<Ports> {
  const { config, clock, log, metrics, closers } = context;
  const { core, callers, services, svid, adminSocket } = parts;
  const { authority, refusals } = core;
  const { unproved, prove, gateways, gate, restored } = callers;
  const rpcOptions = { log, metrics, prove, gate, restored };
  const admin = own(closers, adminRpc(services, rpcOptions));
  const remote = remoteRpc(services, rpcOptions);
  const endpoint = own(
    closers,
    tlsEndpoint({
      ...{ svid, bundle: authority.bundle, clock, refusals, metrics, unproved },
      onConnection: (connection) => {
        gateways.add(connection);
        remote.inject(connection.socket, { kind: 'remote', connection });
      },
    }),
  );
  own(closers, remote);
  const address = formatHostPort(await endpoint.listen(config.listen.host, config.listen.port));
  adminSocket.serve(admin, metrics);
  return { address, crl: await openCrlPort(context, core.crls) };
}

/** What the server shows on its TLS port, renewed for as long as it runs. */
export async function openServerSvid(
  context: Context,
  { authority, authorities }: Core,
): Promise<WatchedSource<X509Svid>> {
  const { config, closers } = context;
  const svid = await ServerSvid.open({
    ...{ ...context, authority, authorities },
    ttlSeconds: config.ttl.x509_svid,
    kept:
      'disk' in config.key_manager
        ? new KeptSvid(join(config.state_dir, 'server-svid.json'))
        : undefined,
  });
  return own(closers, svid).current;
}

async function openCrlPort(
  { config, metrics, closers }: Context,
  crls: Crls,
): Promise<string | undefined> {
  if (config.crl === undefined) return undefined;
  const onRefused = () => metrics.connectionsRefused.inc({ listener: 'crl' });
  const port = own(closers, await serveCrls({ listen: config.crl.listen, crls, onRefused }));
  return port.address;
}
