/**
 * The SSH backend: a client with a certificate of its workload gets a session on a real sshd, which
 * trusts this gateway's own short certificates alone; what it opens there is judged and recorded.
 */
import type { SessionDesk } from '../../../session/session-desk.ts';
import type { BackendContext, TcpConnection, TcpProtocol } from '../backend.ts';
import { HostCertificates } from './host-certificates.ts';
import { loadHostKey } from './host-key.ts';
import { type ServeClientOptions, serveClient } from './serve-client.ts';
import { selfTest } from './ssh2-self-test.ts';

/** Speaks SSH 2 to clients and targets. */
export function sshBackend(): TcpProtocol {
  let running: ServeClientOptions | undefined;
  return {
    type: 'ssh',
    transport: 'tcp',
    async start(context: BackendContext) {
      await selfTest();
      const { api, clock, log, signal, stateDir } = context;
      const key = await loadHostKey(stateDir);
      const certificates = new HostCertificates({ key, api, clock, log, signal });
      running = { context, key, certificates };
    },
    async serve(connection: TcpConnection, desk: SessionDesk, signal: AbortSignal) {
      if (running === undefined) throw new Error('not started');
      await serveClient(connection, desk, { ...running, signal });
    },
    async [Symbol.asyncDispose]() {},
  };
}
