// A client by node-opcua that looks at a station's OPC UA server.
//
// Arguments: one JSON object {url, system, secured, certificate, events: {type: {id, fields}}}; with a certificate (a file's path without
// .pem and .key) it is known by that one, else by one of its own. It prints one line "ready" once it is subscribed,
// each event as one line {event: type, fields}, and answers each line on its standard input by one line: {read: path},
// {browse: path}, {write: path, value}, {call: [object path, method], arguments: [{type, value}]}.
"use strict";
const readline = require("readline");
const opcua = require("node-opcua");

console.log = console.warn = console.error; // standard output is for answers alone
const answer = (line) => process.stdout.write(`${line}\n`);
const options = JSON.parse(process.argv[2]);
function plain(key, shown) {
  const value = this[key]; // before its own toJSON
  if (value instanceof opcua.NodeId) return value.toString();
  if (value instanceof opcua.LocalizedText) return value.text;
  if (Buffer.isBuffer(value)) return Array.from(value);
  if (typeof value === "number" && Number.isNaN(value)) return "NaN";
  return shown;
}
const json = (value) => JSON.stringify(value, plain);

async function look() {
  const security = options.secured
    ? { securityMode: opcua.MessageSecurityMode.SignAndEncrypt, securityPolicy: opcua.SecurityPolicy.Basic256Sha256 }
    : {};
  if (options.certificate) {
    const files = { certificateFile: `${options.certificate}.pem`, privateKeyFile: `${options.certificate}.key` };
    Object.assign(security, files, { applicationUri: options.applicationUri });
  }
  const strategy = { endpointMustExist: false, connectionStrategy: { maxRetry: 0 } };
  const client = opcua.OPCUAClient.create({ ...strategy, ...security });
  await client.connect(options.url);
  const session = await client.createSession();
  const names = await session.readNamespaceArray();
  const vision = names.indexOf("http://opcfoundation.org/UA/MachineVision");
  const find = async (path) => {
    const whole = path.replace(/\/vision:/g, `/${vision}:`);
    const found = await session.translateBrowsePath(opcua.makeBrowsePath("RootFolder", `/Objects/${whole}`));
    if (!found.statusCode.isGood()) throw new Error(`${path}: ${found.statusCode.name}`);
    return found.targets[0].targetId;
  };
  const subscription = await session.createSubscription2({ requestedPublishingInterval: 50, publishingEnabled: true });
  for (const [type, { id, fields }] of Object.entries(options.events)) {
    const paths = fields.map((name) => (/^(Message|Severity|FromState|ToState|Transition|SourceName)$/.test(name) ? name : `${vision}:${name}`));
    const typeId = opcua.coerceNodeId(`ns=${vision};i=${id}`);
    const monitored = await subscription.monitor(
      { nodeId: await find(options.system), attributeId: opcua.AttributeIds.EventNotifier },
      { queueSize: 1000, discardOldest: false, filter: opcua.constructEventFilter(["EventType", ...paths]) },
      opcua.TimestampsToReturn.Neither,
    );
    monitored.on("changed", (values) => {
      if (values[0].value.toString() !== typeId.toString()) return;
      const told = Object.fromEntries(fields.map((name, index) => [name, values[index + 1].value]));
      answer(json({ event: type, fields: told }));
    });
  }
  const commands = {
    read: async ({ read }) => {
      const value = await session.read({ nodeId: await find(read), attributeId: opcua.AttributeIds.Value });
      return { status: value.statusCode.name, value: value.value && value.value.value };
    },
    browse: async ({ browse }) => {
      const found = await session.browse({ nodeId: await find(browse), referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63 });
      return found.references.map((one) => one.browseName.name);
    },
    write: async ({ write, value }) => {
      const status = await session.write({ nodeId: await find(write), attributeId: opcua.AttributeIds.Value, value: { value: { dataType: "LocalizedText", value: { text: value } } } });
      return { status: status.name };
    },
    call: async ({ call: [object, method], arguments: given = [] }) => {
      const inputArguments = [];
      for (const { type, value, structure } of given) {
        if (structure === undefined) inputArguments.push({ dataType: opcua.DataType[type], value, arrayType: Array.isArray(value) ? opcua.VariantArrayType.Array : undefined });
        else inputArguments.push({ dataType: opcua.DataType.ExtensionObject, value: await session.constructExtensionObject(opcua.coerceNodeId(`ns=${vision};i=${structure}`), value) });
      }
      const done = await session.call({ objectId: await find(object), methodId: await find(`${object}/${method}`), inputArguments });
      return { status: done.statusCode.name, values: (done.outputArguments || []).map((one) => one.value) };
    },
  };
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const asked = JSON.parse(line);
    try {
      answer(json({ answer: await commands[Object.keys(asked)[0]](asked) }));
    } catch (error) {
      answer(json({ answer: { failed: String(error) } }));
    }
  }).on("close", () => process.exit(0));
  answer("ready");
}

look().catch((error) => {
  console.error(error);
  process.exit(1);
});
