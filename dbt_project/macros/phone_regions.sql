{#
  The countries whose numbers are known: calling code, the prefix dialled inside the country (trunk), the one dialled to
  get out of it (idd), and what a national number looks like without either. Wider than any operator's list on purpose:
  new ranges are handed out every month, and a refused customer is worse than an unassigned number.
#}
{% macro phone_regions() %}
    {{ return({
        'US': {'code': '1', 'trunk': '1', 'idd': '011', 'national': '[2-9]\\d{2}[2-9]\\d{6}'},
        'CA': {'code': '1', 'trunk': '1', 'idd': '011', 'national': '[2-9]\\d{2}[2-9]\\d{6}'},
        'MX': {'code': '52', 'trunk': '', 'idd': '00', 'national': '[1-9]\\d{9}'},
        'BR': {'code': '55', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{7,10}'},
        'GB': {'code': '44', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{6,9}'},
        'IE': {'code': '353', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{6,9}'},
        'DE': {'code': '49', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{5,13}'},
        'AT': {'code': '43', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{5,12}'},
        'CH': {'code': '41', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{8}'},
        'FR': {'code': '33', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{8}'},
        'NL': {'code': '31', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{6,9}'},
        'BE': {'code': '32', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{7,8}'},
        'ES': {'code': '34', 'trunk': '', 'idd': '00', 'national': '[5-9]\\d{8}'},
        'IT': {'code': '39', 'trunk': '', 'idd': '00', 'national': '(?:0\\d{5,10}|[1-9]\\d{5,10})'},
        'PL': {'code': '48', 'trunk': '', 'idd': '00', 'national': '[1-9]\\d{8}'},
        'SE': {'code': '46', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{6,9}'},
        'IN': {'code': '91', 'trunk': '0', 'idd': '00', 'national': '[1-9]\\d{9}'},
        'JP': {'code': '81', 'trunk': '0', 'idd': '010', 'national': '[1-9]\\d{8,9}'},
        'AU': {'code': '61', 'trunk': '0', 'idd': '0011', 'national': '[1-9]\\d{5,9}'},
    }) }}
{% endmacro %}
