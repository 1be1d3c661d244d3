import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentConfig } from '../../agent/config.ts';
import { runAgent } from '../../agent/main.ts';
import { SpiffeWorkloadAPI } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { SshService } from '../../proto/gen/writ/agent/v1/workload_pb.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { Closers } from '../../runtime/closers.ts';
import { type Client, RpcChannel } from '../../runtime/grpc-client.ts';
import { createLogger, type Logger } from '../../runtime/log.ts';
import type { FakeSpireServer } from './spire-server.ts';

/** Time that runs so many times faster, for what waits; the wall clock stays. */
export function fasterClock(factor: number): Clock {
  return {
    ...systemClock,
    monotonicMs: () => systemClock.monotonicMs() * factor,
    wait: (milliseconds, signal) => systemClock.wait(milliseconds / factor, signal),
  };
}

/** An agent in this process, with a directory of its own that its restarts share. */
export class AgentUnderTest implements AsyncDisposable {
  readonly directory: string;
  readonly socketPath: string;
  readonly sshAgentPath: string;
  /** `host:port`, once it is ready. */
  health = '';
  readonly #server: FakeSpireServer;
  #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  readonly #closers = new Closers();

  private constructor(directory: string, server: FakeSpireServer) {
    this.directory = directory;
    this.socketPath = join(directory, 'run', 'agent.sock');
    this.sshAgentPath = join(directory, 'run', 'ssh-agent.sock');
    this.#server = server;
    this.#closers.defer(() => rm(directory, { recursive: true }));
    this.#closers.defer(() => this.stop());
  }

  static async create(server: FakeSpireServer): Promise<AgentUnderTest> {
    return new AgentUnderTest(await mkdtemp(join(tmpdir(), 'writ-agent-')), server);
  }

  /** Ready when it resolves. Rejects with what ends the agent before that. */
  async start(
    options: { readonly clock?: Clock; readonly joinString?: string; readonly log?: Logger } = {},
  ): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      void this.begin({ ...options, onReady: resolve }).then(reject, reject);
    });
  }

  /** Resolves or rejects when the agent ends. */
  async begin(
    options: {
      readonly clock?: Clock;
      readonly joinString?: string;
      readonly log?: Logger;
      readonly onReady?: () => void;
    } = {},
  ): Promise<void> {
    const level = process.env.TEST_LOG ?? 'silent';
    const { log = createLogger({ process: 'agent', level }) } = options;
    const joinFile = join(this.directory, 'join');
    await writeFile(joinFile, options.joinString ?? this.#server.joinString());
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const [host = '', port = ''] = this.#server.address.split(':');
    const config: AgentConfig = {
      insecure_bootstrap: false,
      trust_domain: this.#server.authority.trustDomain,
      state_dir: join(this.directory, 'state'),
      server: { host, port: Number(port) },
      join_string_file: joinFile,
      workload_api: this.socketPath,
      ssh_agent: this.sshAgentPath,
      health: { host: '127.0.0.1', port: 0 },
      log: { level: 'info' },
    };
    this.#ended = runAgent(config, {
      signal,
      log,
      onReady: ({ health }) => {
        this.health = health;
        options.onReady?.();
      },
      ...(options.clock === undefined ? {} : { clock: options.clock }),
    });
    await this.#ended;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended.catch(() => undefined);
  }

  /** A client of its Workload API, in this process. */
  client(): Client<typeof SpiffeWorkloadAPI> {
    return this.#channel().client(SpiffeWorkloadAPI);
  }

  /** The same for what it offers beside it. */
  sshClient(): Client<typeof SshService> {
    return this.#channel().client(SshService);
  }

  #channel(): RpcChannel {
    const channel = RpcChannel.unix(this.socketPath);
    this.#closers.defer(() => channel[Symbol.asyncDispose]());
    return channel;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closers[Symbol.asyncDispose]();
  }
}
