/**
 * SPIFFE's Workload API for one command and what it starts: X.509 and JWT SVIDs and their bundles. The
 * socket lies in a directory that only this user may enter, and answers the command's descendants alone.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { bundleToJwks, bundleToX509Der } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  type JWTSVIDRequest,
  SpiffeWorkloadAPI,
  type X509SVIDResponseSchema,
} from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Call, type Implementation, RpcServer } from '../../runtime/grpc-server.ts';
import { createLogger } from '../../runtime/log.ts';
import type { Peer } from '../../runtime/peer-credentials.ts';
import { listenUnix } from '../../runtime/unix-socket.ts';
import type { JobIdentity, JobState } from './job-identity.ts';

const MAXIMUM_RECEIVE_BYTES = 64 * 1024;
const SECURITY_HEADER = 'workload.spiffe.io';
const MOST_AUDIENCES = 32;

export interface PrivateEndpoint extends AsyncDisposable {
  /** For SPIFFE_ENDPOINT_SOCKET. */
  readonly address: string;
}

export interface PrivateEndpointOptions {
  readonly identity: Pick<JobIdentity, 'state' | 'newJwt'>;
  /** Whether the process that has this pid may ask. */
  isOurs(pid: number): boolean;
}

/** @throws Fault STATE_UNUSABLE */
export async function servePrivately(options: PrivateEndpointOptions): Promise<PrivateEndpoint> {
  const closers = new Closers();
  try {
    const directory = await mkdtemp(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), 'writ-exec-'));
    closers.defer(() => rm(directory, { recursive: true, force: true }));
    const rpc = new RpcServer<Peer, undefined>({
      guard: ({ peer, metadata }) => {
        const header = metadata.get(SECURITY_HEADER) ?? [];
        if (header.length !== 1 || header[0] !== 'true')
          throw new Fault('INVALID_ARGUMENT', `security header missing: ${SECURITY_HEADER}`);
        const isOurs = peer.uid === process.getuid?.() && options.isOurs(peer.pid);
        if (!isOurs || !peer.alive()) throw new Fault('PERMISSION_DENIED', 'no identity issued');
        return undefined;
      },
      log: createLogger({ process: 'exec', level: 'silent' }),
      maxReceiveBytes: MAXIMUM_RECEIVE_BYTES,
    });
    closers.defer(async () => await rpc[Symbol.asyncDispose]());
    rpc.add(SpiffeWorkloadAPI, workloadService(options.identity));
    const path = join(directory, 'agent.sock');
    const socket = await listenUnix({
      ...{ path, mode: 0o600 },
      onConnection: (connection, peer) => rpc.inject(connection, peer),
    });
    closers.defer(async () => await socket[Symbol.asyncDispose]());
    const dispose = () => closers[Symbol.asyncDispose]();
    return { address: `unix://${path}`, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await closers[Symbol.asyncDispose]();
    throw error;
  }
}

type Service = Partial<Implementation<typeof SpiffeWorkloadAPI, undefined>>;

function workloadService(identity: PrivateEndpointOptions['identity']): Service {
  const { state } = identity;
  async function* each<T>({ signal }: Call<undefined>, compose: (value: JobState) => T) {
    for await (const value of state.values(signal)) yield compose(value);
  }
  return {
    fetchX509SVID: (_request, call) => each(call, x509Response),
    fetchX509Bundles: (_request, call) =>
      each(call, ({ bundle }) => ({
        bundles: { [domainId(bundle.trustDomain)]: bundleToX509Der(bundle) },
      })),
    fetchJWTBundles: (_request, call) =>
      each(call, ({ bundle }) => ({
        bundles: {
          [domainId(bundle.trustDomain)]: Buffer.from(bundleToJwks(bundle, 'jwt-svid')),
        },
      })),
    fetchJWTSVID: async (request, { signal }) => {
      const svids = [];
      for (const { entry } of wantedOf(request, state.value)) {
        const { spiffeId, hint } = entry;
        const svid = await identity.newJwt(entry, request.audience, signal);
        svids.push({ spiffeId: String(spiffeId), svid, hint });
      }
      return { svids };
    },
  };
}

function x509Response({
  svids,
  bundle,
}: JobState): MessageInitShape<typeof X509SVIDResponseSchema> {
  return {
    svids: svids.map(({ svid }) => ({
      spiffeId: String(svid.id),
      x509Svid: Buffer.concat(svid.chain),
      x509SvidKey: svid.privateKey.export({ type: 'pkcs8', format: 'der' }),
      bundle: bundleToX509Der(bundle),
      hint: svid.hint,
    })),
  };
}

/** @throws Fault */
function wantedOf({ audience, spiffeId }: JWTSVIDRequest, { svids }: JobState) {
  if (audience.length === 0 || audience.includes(''))
    throw new Fault('INVALID_ARGUMENT', 'audience must be given');
  if (audience.length > MOST_AUDIENCES)
    throw new Fault('INVALID_ARGUMENT', `audience: at most ${MOST_AUDIENCES}`);
  const id = spiffeId === '' ? undefined : String(SpiffeId.parse(spiffeId));
  const wanted = svids.filter(({ svid }) => id === undefined || String(svid.id) === id);
  if (wanted.length === 0) throw new Fault('PERMISSION_DENIED', 'no identity issued');
  return wanted;
}

function domainId(trustDomain: JobState['bundle']['trustDomain']): string {
  return String(SpiffeId.fromSegments(trustDomain));
}
