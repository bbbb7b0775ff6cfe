//# allFunctionsCalledOnLoad
function n(e){return e.disabled?{key:"disabled",tone:"idle"}:e.has_password?{key:"active",tone:"good"}:{key:"invited",tone:"warn"}}function r(e,t){return e.revoked_ms!=null?{key:"revoked",tone:"idle"}:e.expires_ms!=null&&e.expires_ms<=t?{key:"expired",tone:"idle"}:{key:"live",tone:"good"}}export{r as t,n as u};
