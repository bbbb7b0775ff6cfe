/** 简体中文。 */
import access from "./access";
import cloud from "./cloud";
import compute from "./compute";
import control from "./control";
import fleet from "./fleet";
import frame from "./frame";
import ledger from "./ledger";
import ui from "./ui";

export default { ...frame, ui, ...access, ...fleet, ...compute, ...cloud, ...ledger, ...control };
