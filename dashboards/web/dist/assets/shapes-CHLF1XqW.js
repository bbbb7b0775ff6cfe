//# allFunctionsCalledOnLoad
const t=["settings","access","audit","agents","measurements","migration","health","account"];export{t as C};
