/**
 * What the Go side asks of this one, as POSTs of JSON over a Unix socket: to start servers and agents, to
 * end and restart them, to run `writ`, to count rows of a server's store, and to verify certificates.
 */
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import * as v from 'valibot';
import { Closers } from '../../runtime/closers.ts';
import { checkByNode } from './node-verifier.ts';
import type { ServerStore, Stores } from './stores.ts';
import {
  runWrit,
  startAgent,
  startServer,
  type WritAgent,
  type WritServer,
} from './writ-processes.ts';

interface Known extends WritServer {
  readonly id: string;
  readonly store: ServerStore;
}

type Answer = (body: unknown) => Promise<object>;

const started = v.strictObject({ config: v.record(v.string(), v.unknown()) });
const ended = v.strictObject({ server: v.string(), signal: v.picklist(['SIGTERM', 'SIGKILL']) });
const named = v.strictObject({ server: v.string() });
const agentNamed = v.strictObject({ agent: v.string() });
const agentStarted = v.strictObject({ server: v.string(), join_string: v.string() });
const command = v.strictObject({ server: v.string(), args: v.array(v.string()) });
const counted = v.strictObject({ server: v.string(), sql: v.string() });
const checked = v.strictObject({ chain: v.array(v.string()), roots: v.array(v.string()) });

export interface Control extends AsyncDisposable {
  readonly socket: string;
}

/** @param folder short, and its owner's alone: sockets are made in it */
export async function startControl(folder: string, stores: Stores): Promise<Control> {
  const closers = new Closers();
  const answers = answersIn(folder, stores, closers);
  const http = createServer((request, response) => {
    void answerTo(answers, request, response);
  });
  const socket = join(folder, 'control.sock');
  http.listen(socket);
  await once(http, 'listening');
  return {
    socket,
    async [Symbol.asyncDispose]() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
      await closers[Symbol.asyncDispose]();
    },
  };
}

function answersIn(
  folder: string,
  stores: Stores,
  closers: Closers,
): Readonly<Record<string, Answer>> {
  const servers = new Map<string, Known>();
  const agents = new Map<string, WritAgent>();
  let made = 0;
  const nextFolder = async (kind: string): Promise<string> => {
    made += 1;
    const path = join(folder, `${kind}${made}`);
    await mkdir(path, { mode: 0o700 });
    return path;
  };
  const find = (id: string): Known => {
    const found = servers.get(id);
    if (found === undefined) throw new Error(`no server ${id}`);
    return found;
  };
  return {
    '/server/start': async (body) => {
      const { config } = v.parse(started, body);
      const own = await nextFolder('s');
      const store = await stores.create(own, join(own, 'state'));
      const server = await startServer(own, { ...store.config, ...config });
      closers.defer(() => server.process[Symbol.asyncDispose]());
      const known = { ...server, id: own, store };
      servers.set(own, known);
      return placeOf(known);
    },
    '/server/end': async (body) => {
      const { server, signal } = v.parse(ended, body);
      await find(server).process.end(signal);
      return {};
    },
    '/server/again': async (body) => {
      const known = find(v.parse(named, body).server);
      await known.process.start();
      return placeOf(known);
    },
    '/agent/start': async (body) => {
      const { server, join_string: joinString } = v.parse(agentStarted, body);
      const id = await nextFolder('a');
      const agent = await startAgent(id, find(server).address, joinString);
      closers.defer(() => agent.process[Symbol.asyncDispose]());
      agents.set(id, agent);
      return { agent: id, workload_api: agent.workloadApi };
    },
    '/agent/end': async (body) => {
      await agents.get(v.parse(agentNamed, body).agent)?.process.end('SIGKILL');
      return {};
    },
    '/writ': async (body) => {
      const { server, args } = v.parse(command, body);
      return runWrit(find(server), args);
    },
    '/store/count': async (body) => {
      const { server, sql } = v.parse(counted, body);
      return { count: await find(server).store.count(sql) };
    },
    '/x509/check': async (body) => {
      const { chain, roots } = v.parse(checked, body);
      return checkByNode(chain, roots);
    },
  };
}

function placeOf({ id, address, adminSocket, stateDir }: Known): object {
  return { server: id, address, admin_socket: adminSocket, state_dir: stateDir };
}

async function answerTo(
  answers: Readonly<Record<string, Answer>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const answer = answers[request.url ?? ''];
    if (answer === undefined) throw new Error(`no such path: ${request.url}`);
    const body = await answer(await json(request));
    response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
  } catch (error) {
    response.statusCode = 500;
    response.end(error instanceof Error ? error.message : 'no error');
  }
}
