/** 系统设置与自身状况。 */
export default {
  settings: {
    soon: "此版本的控制服务尚未提供设置接口",
    soon_text: "当前生效的配置可用 tongtu serve --help 和配置文件查看。",
    name: "名称",
    value: "取值",
    origin: "来自",
    origin_name: { default: "默认", file: "配置文件" },
    certificates: "证书",
    subject: "主体",
    fingerprint: "指纹",
    ends: "到期",
    readiness: "就绪检查",
    check_name: { start: "启动", stop: "停止", database: "数据库", records: "记录入库" },
    ok: "正常",
    not_ok: "异常",
  },
};
